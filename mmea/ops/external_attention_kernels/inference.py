"""The forward pass, in Triton: two passes over the tokens.

Tokens x (B, C, N) come with their strides. The folded key memory A (S, C) is
in what the products compute in, DTYPE; the folded value memory, D^T (S, C),
logits and statistics are in float32. S is filled up to SB, a power of two; a
tile has BN tokens, and its channels come in blocks of BC. What is None is
left out when a kernel is compiled.
"""

import triton
import triton.language as tl

__all__ = ['apply_attention', 'combine', 'summarise_tokens']


@triton.jit
def find_valid(mask, b, n, N):
    """Tell which tokens of a tile are in the image, and no padding."""
    valid = n < N
    if mask is not None:
        valid = valid & (tl.load(mask + b * N + n, mask=valid, other=0) != 0)
    return valid


@triton.jit
def load_slot(ptr, b, s, S):
    """Load a row of (B, S)."""
    return tl.load(ptr + b * S + s, mask=s < S, other=0.0)


@triton.jit
def load_slots(ptr, b, s, n, N, S):
    """Load a tile of (B, S, N)."""
    inside = (s < S)[:, None] & (n < N)[None, :]
    return tl.load(
        ptr + (b * S + s[:, None]) * N + n[None, :], mask=inside, other=0.0
    )


@triton.jit
def store_slots(ptr, value, b, s, n, N, S):
    """Store a tile of (B, S, N)."""
    inside = (s < S)[:, None] & (n < N)[None, :]
    tl.store(ptr + (b * S + s[:, None]) * N + n[None, :], value, mask=inside)


@triton.jit
def place(b, c, n, sb, sc, sn):
    """Find a tile of (B, C, N) by its strides; 2^31 elements and more."""
    return b * sb + c[:, None].to(tl.int64) * sc + n[None, :].to(tl.int64) * sn


@triton.jit
def compute_logits(
    x, key, b, n, valid, sb, sc, sn, S,
    C: tl.constexpr, SB: tl.constexpr, BN: tl.constexpr, BC: tl.constexpr,
    DTYPE: tl.constexpr, PREC: tl.constexpr,
):  # fmt: skip
    """Multiply A with a tile of tokens; what is no valid token counts 0."""
    s = tl.arange(0, SB)
    logits = tl.zeros((SB, BN), tl.float32)
    for start in range(0, C, BC):
        c = start + tl.arange(0, BC)
        tokens = tl.load(
            x + place(b, c, n, sb, sc, sn),
            mask=(c < C)[:, None] & valid[None, :],
            other=0.0,
        )
        a = tl.load(
            key + s[:, None] * C + c[None, :],
            mask=(s < S)[:, None] & (c < C)[None, :],
            other=0.0,
        )
        a, tokens = a.to(DTYPE), tokens.to(DTYPE)
        logits = tl.dot(a, tokens, logits, input_precision=PREC)
    return logits


@triton.jit
def attend(logits, lse, s, valid, S, eps):
    """Normalise twice, given the log-sum-exp over tokens: a softmax over
    slots, and eps one more of them."""
    u = tl.where(
        (s < S)[:, None] & valid[None, :], logits - lse[:, None], -float('inf')
    )
    top = tl.max(u, 0)
    top = tl.where(top == -float('inf'), 0.0, top)
    share = tl.exp(u - top[None, :])
    # Bounded, for 0 times infinity would be NaN where eps is 0.
    rest = eps * tl.exp(tl.minimum(-top, 80.0))
    attn = share / (tl.sum(share, 0) + rest)[None, :]
    return tl.where(valid[None, :], attn, 0.0)


@triton.jit
def centre_tile(attn, valid):
    """Subtract from P its mean over a tile, exactly given back by D c.

    P is nearly 1/S: rounded as it is, nothing would be left of it.
    """
    count = tl.maximum(tl.sum(valid.to(tl.float32), 0), 1.0)
    centre = tl.sum(attn, 1) / count
    return tl.where(valid[None, :], attn - centre[:, None], 0.0), centre


@triton.jit
def find_scale(value):
    """Find what to divide each slot of a tile by, to fit half precision."""
    largest = tl.max(tl.abs(value), 1)
    return tl.where(largest > 0, largest, 1.0)


@triton.jit
def summarise_tokens(
    x, key, mask, logits, tops, sums, N, S, T, sb, sc, sn,
    C: tl.constexpr, SB: tl.constexpr, BN: tl.constexpr, BC: tl.constexpr,
    DTYPE: tl.constexpr, PREC: tl.constexpr,
):  # fmt: skip
    """Pass 1: of each tile, slot by slot, the largest logit m and
    sum exp(L - m), (B, T, SB) each; and the logits, for a backward pass."""
    t, b = tl.program_id(0), tl.program_id(1).to(tl.int64)
    n, s = t * BN + tl.arange(0, BN), tl.arange(0, SB)
    valid = find_valid(mask, b, n, N)
    tile = compute_logits(
        x, key, b, n, valid, sb, sc, sn, S, C, SB, BN, BC, DTYPE, PREC
    )
    if logits is not None:
        store_slots(logits, tile, b, s, n, N, S)
    tile = tl.where(valid[None, :], tile, -float('inf'))
    top = tl.max(tile, 1)
    finite = tl.where(top == -float('inf'), 0.0, top)
    total = tl.sum(tl.exp(tile - finite[:, None]), 1)
    at = (b * T + t) * SB + s
    tl.store(tops + at, top)
    tl.store(sums + at, total)


@triton.jit
def combine(tops, sums, lse, S, T, SB: tl.constexpr, BT: tl.constexpr):
    """Merge the tiles of an image to its log-sum-exp, (B, S)."""
    b, s = tl.program_id(0).to(tl.int64), tl.arange(0, SB)
    top = tl.full((SB,), -float('inf'), tl.float32)
    total = tl.zeros((SB,), tl.float32)
    for start in range(0, T, BT):
        t = start + tl.arange(0, BT)
        at = (b * T + t[:, None]) * SB + s[None, :]
        inside = (t < T)[:, None]
        m = tl.load(tops + at, mask=inside, other=-float('inf'))
        z = tl.load(sums + at, mask=inside, other=0.0)
        new = tl.maximum(top, tl.max(m, 0))
        finite = tl.where(new == -float('inf'), 0.0, new)
        total = total * tl.exp(top - finite)
        total += tl.sum(z * tl.exp(m - finite[None, :]), 0)
        top = new
    # Of an image without a valid token P is 0.
    found = top + tl.log(tl.where(total == 0, 1.0, total))
    found = tl.where(top == -float('inf'), float('inf'), found)
    tl.store(lse + b * S + s, found, mask=s < S)


@triton.jit
def apply_attention(
    x, key, mask, logits, lse, value, shift, centre, out, bits,
    N, S, W, eps, sb, sc, sn,
    C: tl.constexpr, SB: tl.constexpr, BN: tl.constexpr, BC: tl.constexpr,
    RESIDUAL: tl.constexpr, RELU: tl.constexpr, DTYPE: tl.constexpr,
    PREC: tl.constexpr,
):  # fmt: skip
    """Pass 2: ``relu(x + D (P - centre) + shift)``, and a bit for each number
    that the ReLU let through, (B, C, W) words of 32 tokens. The logits are
    those of pass 1, or computed again from the tokens, which the residual
    reads anyway."""
    t, b = tl.program_id(0), tl.program_id(1).to(tl.int64)
    n, s = t * BN + tl.arange(0, BN), tl.arange(0, SB)
    valid = find_valid(mask, b, n, N)
    if logits is not None:
        tile = load_slots(logits, b, s, n, N, S)
    else:
        tile = compute_logits(
            x, key, b, n, valid, sb, sc, sn, S, C, SB, BN, BC, DTYPE, PREC
        )
    attn = attend(tile, load_slot(lse, b, s, S), s, valid, S, eps)
    attn, mean = centre_tile(attn, valid)
    if centre is not None:
        mean -= load_slot(centre, 0, s, S)
    scale = find_scale(attn)
    attn = (attn / scale[:, None]).to(DTYPE)
    for start in range(0, C, BC):
        c = start + tl.arange(0, BC)
        d = tl.load(
            value + s[None, :] * C + c[:, None],
            mask=(c < C)[:, None] & (s < S)[None, :],
            other=0.0,
        )
        back = tl.sum(d * mean[None, :], 1)
        if shift is not None:
            back += tl.load(shift + c, mask=c < C, other=0.0)
        y = tl.dot((d * scale[None, :]).to(DTYPE), attn, input_precision=PREC)
        y += tl.where(valid[None, :], back[:, None], 0.0)
        at = place(b, c, n, sb, sc, sn)
        inside = (c < C)[:, None] & (n < N)[None, :]
        if RESIDUAL:
            y += tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
        if bits is not None:
            word = (y > 0).to(tl.int32).reshape(BC, BN // 32, 32)
            word = tl.sum(word << tl.arange(0, 32)[None, None, :], 2)
            w = t * (BN // 32) + tl.arange(0, BN // 32)
            tl.store(
                bits + (b * C + c[:, None]) * W + w[None, :],
                word,
                mask=(c < C)[:, None] & (w < W)[None, :],
            )
        if RELU:
            y = tl.where(y < 0, 0.0, y)  # NaN stays
        tl.store(out + at, y.to(out.dtype.element_ty), mask=inside)
