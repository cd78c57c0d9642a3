"""A Qwen3 of two layers with random weights: the whole path in seconds. It knows nothing and is never served to anyone."""

from __future__ import annotations

import shutil
from pathlib import Path

LAYERS, HIDDEN, SEED = 2, 64, 7


def make_toy(tokenizer: Path, out: Path) -> Path:
    """Writes the model with the tokenizer and chat template of another folder, atomically. Same bytes every time."""
    import torch
    from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    words = AutoTokenizer.from_pretrained(tokenizer, trust_remote_code=False)
    torch.manual_seed(SEED)
    config = Qwen3Config(
        vocab_size=len(words),
        hidden_size=HIDDEN,
        intermediate_size=2 * HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=64,  # vLLM's CPU attention takes this one; it refuses 16
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    staging = out.with_name(f".{out.name}.new")
    shutil.rmtree(staging, ignore_errors=True)
    Qwen3ForCausalLM(config).to(torch.bfloat16).save_pretrained(staging)
    words.save_pretrained(staging)
    shutil.rmtree(out, ignore_errors=True)
    staging.rename(out)
    return out
