"""Why units are tied or must stay: a code for each reason, and the library's only table of its words.

Everything that decides compares codes; the words are for people (the ``graph`` JSON, refusals, the command line).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, unique


@unique
class Code(Enum):
    """Every reason that a trace gives: the name is the code, the value its sentence with the parameters in braces."""

    # ties between the units of several layers
    residual_add = "residual add"
    concatenated_side_by_side = "concatenated side by side"
    same_head = "queries, keys and values of one head"
    one_head = "one attention head"
    elementwise_product = "elementwise product"
    combined_elementwise = "combined elementwise"
    depthwise = "depthwise convolution"
    grouped_convolution = "the same place in every group of a grouped convolution"
    equal_parts = "split into equal parts"
    equal_blocks = "parts of an axis that is split into equal blocks"
    pixel_shuffle_block = "one pixel-shuffle block"
    channel_shuffle = "interleaved with the other groups"
    quantized_per_channel = "quantized per channel"
    width_parameter = "meets a parameter along the width of a head"
    meets_fixed_axis = "meets an axis that cannot be cut"
    written_into_part = "written into a part of another tensor"
    written_in_place = "written in place"
    added_up_to_channel = "added up to one channel"
    contracted_together = "contracted together"
    read_together = "read together by a convolution"
    added_together = "added together"
    one_norm_group = "averaged over together, in one group of a group norm"
    every_norm_group = "the same place in every group of a group norm"
    # ties inside a layer
    normalised_with_layer = "normalised together with its layer"
    read_by_next_layer = "read by the next layer"
    bias_of_layer = "bias of the same layer"
    # what must stay, by the use that is made of it
    next_to_output = "adjacent to the output"
    requested = "user"
    shared_with_frozen = "shared with a frozen parameter"
    single_unit = "a single unit"
    rank = "the rank of a layer in two factors"
    no_parameter = "no parameter makes these units zero"
    parameter_replaced = "forward() replaces the parameter {parameter}"
    switched_with_mode = "written to by train() and eval()"
    eight_bit_float = "held in 8-bit floating point"
    random_numbers = "random numbers are drawn along these units"
    unknown_operation = "op {name} is not understood"
    # what averages, reduces or divides
    norm_averages = "{norm} averages over these units"
    norm_along_heads = "{norm} runs over the width of a head"
    runs_along_heads = "runs along the width of every head"
    softmax = "a softmax runs over these units"
    running_sum = "a running sum runs over these units"
    mean = "averages over these units"
    reduced = "{name} over these units"
    weight_norm = "a weight norm divides by the length of these weights"
    observer_on = "a quantizer measures the range of these weights at every pass (its observer is on)"
    divided_by_zeroed = "divided by a parameter that is zeroed with its unit"
    not_a_number = "not a number where a unit is zeroed"
    summed_not_zeroed = "summed over weights that are not zeroed with their unit"
    not_zero_where_read = "a zeroed unit is not zero any more where it is read"
    # positions and indices
    by_index = "read or written by index ({name})"
    picked_by_index = "picked by index"
    picked_by_mask = "picked by a mask"
    used_as_index = "used as an index"
    used_as_positions = "op {name} reads it as positions"
    fixed_slice = "sliced at a fixed position"
    unequal_parts = "split into unequal parts at fixed positions"
    padded = "padded to a fixed size"
    padded_axis_split = "an axis with padded positions is split"
    overlapping_windows = "read in overlapping windows"
    rolled_flat = "rolled through all axes as one"
    reshaped_to_empty = "reshaped to an empty tensor"
    written_into_fixed = "written into a tensor of fixed size"
    # what meets something that cannot be cut
    added_to_input = "added to the model's input"
    added_to_constant = "added to a constant of fixed size"
    added_to_fixed_axis = "added to an axis that cannot be cut"
    combined_with_input = "combined with the model's input"
    combined_with_constant = "combined with a constant of fixed size"
    combined_with_fixed_axis = "combined with an axis that cannot be cut"
    combined_with_unowned = "combined with positions that no unit owns"
    multiplied_with_fixed_axis = "multiplied with an axis that cannot be cut"
    reads_fixed_axis = "reads an axis that cannot be cut"
    normalises_fixed_axis = "normalises an axis that cannot be cut"
    depthwise_fixed_axis = "depthwise over an axis that cannot be cut"
    # layers and axes of a shape that is not cut
    tangled_weight = "a weight whose axes are tangled"
    computed_weight = "convolved with computed weights"
    convolved_along = "slid over by a convolution"
    no_columns = "read by a layer that has no columns to cut"
    transposed_multiplier = "transposed depthwise convolution with a multiplier"
    grouped_shape = "grouped convolution of this shape"
    joined_owners = "several owners along a joined axis"
    contracted_owners = "several owners along a contracted axis"
    spatial_unshuffle = "an owned spatial axis"
    spatial_shuffle = "pixel shuffle over an owned spatial axis"
    spatial_pool = "pooled over an owned spatial axis"
    head_width = "width of an attention head"
    # words of a rule that somebody else registered
    custom = "{text}"


@dataclass(frozen=True)
class Reason:
    """A code with the values of its parameters; ``str`` gives the sentence."""

    code: Code
    params: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        return self.code.value.format(**self.params)


Why = Code | Reason | str


def as_reason(why: Why) -> Reason:
    """A code without parameters as a reason; so are the words of a rule that somebody else registered."""
    if isinstance(why, Reason):
        return why
    return Reason(why) if isinstance(why, Code) else Reason(Code.custom, {"text": why})
