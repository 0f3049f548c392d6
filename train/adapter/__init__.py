"""Fine-tuning: a low-rank adapter over a frozen base, dense or quantized; one for each persona."""
