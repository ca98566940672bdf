"""Why units are tied, and why some must stay, in plain sentences: the only table from the library's codes to them.

A tie fills in {op} (the operation that ties), {one} and {other} (what flows into it) and {all}; a reason for staying
fills in {place} and the parameters of its code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from app import plain

if TYPE_CHECKING:
    from compression.graph import Reason  # which imports torch: not before a network is traced

# ties between layers stand first, ties inside a layer last
TIES = {
    "residual_add": "{op} adds {one} to {other}: channel i of one is channel i of the other.",
    "concatenated_side_by_side": "{op} puts {all} side by side along another axis: channel i of one is channel i of "
    "the other.",
    "same_head": "{op} multiplies queries with keys, or weights with values, head by head: head i of {one} is head "
    "i of {other}.",
    "one_head": "{op} works on whole heads: all rows of {one} that make one head are one unit.",
    "elementwise_product": "{op} multiplies {one} with {other}, place by place: channel i of one is channel i of "
    "the other.",
    "combined_elementwise": "{op} combines {all} place by place: channel i of one is channel i of the other.",
    "depthwise": "{op} filters every channel of {one} by itself: without channel i, filter i has no work.",
    "grouped_convolution": "{op} is a convolution in equal groups: the channels at the same place in every group "
    "are removed together, so that the groups stay equal.",
    "equal_parts": "{op} cuts {one} into equal parts: the channels at the same place in every part are removed "
    "together, so that the parts stay equal.",
    "equal_blocks": "{op} reshapes {one} into equal blocks: what has the same place in every block is removed "
    "together.",
    "pixel_shuffle_block": "{op} turns blocks of channels of {one} into pixels: the channels of one block are "
    "removed together.",
    "channel_shuffle": "{op} shuffles {one} between groups: the channels at the same place in every group are "
    "removed together.",
    "quantized_per_channel": "{op} quantizes {one} with a step per channel: step i belongs to channel i.",
    "width_parameter": "{op} applies one parameter to the width of every head of {one}: heads stay whole.",
    "meets_fixed_axis": "{op} combines {one} with something that cannot be cut along one side: what lies along that "
    "side is removed together.",
    "written_into_part": "{op} writes {one} into a part of a tensor whose channels are the same: channel i of one "
    "is channel i of the other.",
    "written_in_place": "{op} writes {one} over {other}: channel i of one is channel i of the other.",
    "added_up_to_channel": "{op} adds overlapping patches of {one} up to an image: all that makes one channel is "
    "removed together.",
    "contracted_together": "{op} sums {one} over several axes at once: all that is summed with one channel is "
    "removed with it.",
    "read_together": "{op} reads several axes of {one} as one channel: they are removed together.",
    "added_together": "{op} adds a learned or fixed tensor to {one}: its entry i is removed with unit i.",
    "one_norm_group": "{op} averages {one} in groups: one group of channels is removed as a whole, which the other "
    "groups do not notice.",
    "every_norm_group": "{op} averages {one} in groups: the channels at the same place in every group are removed "
    "together, so that the groups stay equal.",
    "custom": "{op} ties {all}: {text}.",
    "normalised_with_layer": "{op} scales and shifts every channel of {one} by itself: its scale, shift and "
    "statistics number i belong to channel i.",
    "read_by_next_layer": "{op} reads {one}: its input column i is multiplied with unit i and nothing else.",
    "bias_of_layer": "{op} adds a bias to what it computes: bias i belongs to output i.",
}
ORDER = {code: place for place, code in enumerate(TIES)}

# what freezes single channels leaves heads and blocks as units: a tie whose code is a reason for staying
WHOLE = "{op} takes {one} in wholes, so that whole heads or blocks are the units ({reason})."

FROZEN = {
    "next_to_output": "They are what the network answers with{place}: without one of them an answer is missing.",
    "requested": "They stay because the one who traced the network asked for it.",
    "shared_with_frozen": "They share their numbers with a parameter that was asked to stay.",
    "single_unit": "There is only one unit, and without it nothing would pass.",
    "rank": "They are the rank of a layer that is two factors, which is chosen when it is split.",
    "no_parameter": "No parameter can be set to zero to switch one of them off.",
    "parameter_replaced": "The forward pass replaces the parameter {parameter}, so what is cut out of it comes back.",
    "switched_with_mode": "Switching between training and evaluation writes to these weights, as when adapters are "
    "merged into them: what is zero in training comes back. Merge them for good, then trace again.",
    "eight_bit_float": "Their numbers are held in an 8-bit floating-point type, which cannot be cut.",
    "random_numbers": "Random numbers are drawn{place} along them: take one out, and the others get different ones.",
    "unknown_operation": "The operation {name}{place} is not known here, so nothing that reaches it is touched. A "
    "rule for it can be registered.",
    "norm_averages": "{norm}{place} averages over all of them: take one out, and every other comes out different.",
    "norm_along_heads": "{norm}{place} averages over the inside of every head: only whole heads can be removed.",
    "runs_along_heads": "They lie along the inside of every head{place}: only whole heads can be removed.",
    "softmax": "A softmax{place} shares 1 out among them: take one out, and every other gets more.",
    "running_sum": "A running sum{place} runs over all of them: take one out, and the others come out different.",
    "mean": "A mean{place} is taken over all of them: take one out, and it changes.",
    "reduced": "{name}{place} runs over all of them: its result depends on how many there are.",
    "weight_norm": "A weight norm{place} divides by the length of these weights: take one out, and the others change.",
    "observer_on": "A quantizer{place} measures the range of these weights anew at every pass: take some out, and "
    "the others are rounded differently. Switch its observer off (`torch.ao.quantization.disable_observer`) to fix the "
    "range.",
    "divided_by_zeroed": "They are divided{place} by a parameter that becomes zero with its unit, so a zeroed unit "
    "gives no number.",
    "not_a_number": "Something{place} divides by them or takes their logarithm: a zeroed unit gives no number there.",
    "summed_not_zeroed": "A norm or a sum{place} runs over the weights that read them, and these are not zero: take "
    "some out, and it changes.",
    "not_zero_where_read": "Where they are read{place} a zeroed unit is not zero any more, so taking it out would "
    "change the answer.",
    "by_index": "{name}{place} reads or writes them by number: take one out, and the numbers mean others.",
    "picked_by_index": "They are picked by number{place}: take one out, and the numbers mean others.",
    "picked_by_mask": "A mask{place} picks among them, and it has a fixed size.",
    "used_as_index": "They are used as numbers of positions{place}.",
    "used_as_positions": "The operation {name}{place} reads them as positions, not as channels.",
    "fixed_slice": "A slice{place} takes them at fixed positions: take one out, and it takes others.",
    "unequal_parts": "They are split{place} at fixed positions into unequal parts.",
    "padded": "They are padded{place} to a fixed number.",
    "padded_axis_split": "An axis that is partly padding is split into blocks{place}.",
    "overlapping_windows": "They are read{place} in overlapping windows, as if they were pixels.",
    "rolled_flat": "They are rolled{place} through all axes as one: without one, the others move.",
    "reshaped_to_empty": "They are reshaped{place} to a tensor without elements.",
    "written_into_fixed": "They are written{place} into a tensor of fixed size.",
    "written_into_part": "They are written into a part of another tensor{place}, whose channels are not theirs.",
    "added_to_input": "They are added to the network's own input{place}, whose channels cannot be cut.",
    "added_to_constant": "A constant of fixed size is added to them{place}.",
    "added_to_fixed_axis": "Something is added to them{place} whose channels cannot be cut.",
    "combined_with_input": "They meet the network's own input{place}, whose channels cannot be cut.",
    "combined_with_constant": "They meet a constant of fixed size{place}.",
    "combined_with_fixed_axis": "They meet something{place} whose channels cannot be cut.",
    "combined_with_unowned": "Some of them meet positions{place} that belong to no channel, such as padding.",
    "multiplied_with_fixed_axis": "They are multiplied{place} with something that cannot be cut.",
    "reads_fixed_axis": "They read something{place} that cannot be cut, such as the network's input.",
    "normalises_fixed_axis": "They scale something{place} that cannot be cut.",
    "depthwise_fixed_axis": "A depthwise convolution{place} works on channels that cannot be cut.",
    "tangled_weight": "A weight{place} is reshaped so that its rows cannot be separated.",
    "computed_weight": "They are convolved{place} with weights that are computed on the way, not stored.",
    "convolved_along": "A convolution{place} slides along them, as if they were pixels.",
    "no_columns": "A layer{place} reads them without a column for each.",
    "transposed_multiplier": "A transposed depthwise convolution{place} makes several channels of each; this shape "
    "is not cut.",
    "grouped_shape": "A convolution in groups{place} has a shape that is not cut.",
    "joined_owners": "Channels of several layers meet{place} along one joined axis.",
    "contracted_owners": "A product{place} sums over channels of several layers at once.",
    "spatial_unshuffle": "They are moved{place} into pixels of another layer.",
    "spatial_shuffle": "A pixel shuffle{place} moves them into pixels of another layer.",
    "spatial_pool": "Pooling{place} runs along them, as if they were pixels.",
    "head_width": "They are the inside of attention heads{place}: only whole heads can be removed.",
}
IDENTIFIERS = ("name", "parameter")  # parameters of reasons that are shown as code
STAYS = "It must stay: {reason}."  # words of a rule that somebody else registered


def tie(reason: Reason, op: str, sources: Sequence[str]) -> str:
    """One tie in a sentence.

    Args:
        reason: its cause.
        op: the node that ties; empty for a reshape.
        sources: the layers and joins whose outputs reach it, nearest first.
    """
    names = [f"the output of {plain.code(source)}" for source in sources]
    one = names[0] if names else "what comes in"
    return TIES.get(reason.code.name, WHOLE).format(
        op=plain.code(op) if op else "A reshape",
        one=one,
        other=f"that of {plain.code(sources[1])}" if len(names) > 1 else "what it meets",
        all=f"the outputs of {_listed(sources)}" if len(names) > 1 else one,
        **_shown(reason),
    )


def frozen(reason: Reason, where: str | None = None) -> str:
    """Why a group must stay, or what taking units out of it changes, in a sentence; ``where`` is a node."""
    place = f" in {plain.code(where)}" if where else ""
    sentence = FROZEN.get(reason.code.name, STAYS).format(place=place, **_shown(reason))
    return sentence[:1].upper() + sentence[1:]


def rank(reason: Reason) -> int:
    """Ties between layers first, those inside one layer last."""
    return ORDER.get(reason.code.name, 0)


def _shown(reason: Reason) -> dict[str, str]:
    """The parameters of a reason and its words, as text that a page shows as it is."""
    shown = {key: (plain.code if key in IDENTIFIERS else plain.text)(value) for key, value in reason.params.items()}
    return {**shown, "reason": plain.text(str(reason))}


def _listed(names: Sequence[str]) -> str:
    quoted = [plain.code(name) for name in names]
    if len(names) > 4:
        return f"{', '.join(quoted[:3])} and {len(names) - 3} more"
    return f"{', '.join(quoted[:-1])} and {quoted[-1]}"
