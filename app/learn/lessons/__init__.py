"""The lessons of the Learn page: one module each, their texts in ``assets/lessons``; only the frame draws."""
