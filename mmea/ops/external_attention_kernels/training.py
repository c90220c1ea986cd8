"""Statistics of a batch and the backward pass, in Triton.

Letters as in inference.py; dY (B, C, N) is the gradient of the output behind
the ReLU, E = D^T dY. What is summed over tokens, each of R programs sums over
every R-th tile of an image, and torch over the programs: nothing is atomic,
and two runs are equal. What is (C, S) is made in blocks of BC channels, for
which registers suffice.
"""

import triton
import triton.language as tl

from .inference import (
    attend,
    centre_tile,
    find_scale,
    find_valid,
    load_slot,
    load_slots,
    place,
    store_slots,
)

__all__ = [
    'grad_attention',
    'grad_key',
    'grad_softmax',
    'grad_tokens',
    'grad_value',
    'sum_statistics',
]


@triton.jit
def dot_fine(a, b, DTYPE: tl.constexpr, PREC: tl.constexpr):
    """Multiply a tile in float32 by one in DTYPE. In half precision the first
    is the sum of two halves: where a norm sees few tokens it takes away nearly
    all of the product, and the rounding of one half would be left."""
    high = a.to(DTYPE)
    product = tl.dot(high, b, input_precision=PREC)
    if DTYPE != tl.float32:
        low = (a - high.to(tl.float32)).to(DTYPE)
        product = tl.dot(low, b, product, input_precision=PREC)
    return product


@triton.jit
def sum_statistics(
    mask, logits, lse, counts, means, grams, N, S, T, R, eps,
    SB: tl.constexpr, BN: tl.constexpr, PREC: tl.constexpr,
):  # fmt: skip
    """Count tokens (B, R), average P (B, R, SB) and sum (P - mean)(P - mean)^T
    (B, R, SB, SB), about the mean from the start: a difference of two large
    sums would lose a small variance."""
    r, b = tl.program_id(0), tl.program_id(1).to(tl.int64)
    s = tl.arange(0, SB)
    norm = load_slot(lse, b, s, S)
    count = 0.0
    mean = tl.zeros((SB,), tl.float32)
    gram = tl.zeros((SB, SB), tl.float32)
    for t in range(r, T, R):
        n = t * BN + tl.arange(0, BN)
        valid = find_valid(mask, b, n, N)
        tile = load_slots(logits, b, s, n, N, S)
        attn = attend(tile, norm, s, valid, S, eps)
        attn, own = centre_tile(attn, valid)
        gram = tl.dot(attn, tl.trans(attn), gram, input_precision=PREC)
        # Two groups of tokens merge to one.
        added = tl.sum(valid.to(tl.float32), 0)
        share = added / tl.maximum(count + added, 1.0)
        step = own - mean
        gram += step[:, None] * (step * share * count)[None, :]
        mean += step * share
        count += added
    at = b * R + r
    tl.store(counts + at, count)
    tl.store(means + at * SB + s, mean)
    tl.store(grams + (at * SB + s[:, None]) * SB + s[None, :], gram)


@triton.jit
def load_grad(
    grad, bits, b, c, n, keep, sb, sc, sn, W, C: tl.constexpr
):  # fmt: skip
    """Load a tile of dY, in float32."""
    inside = (c < C)[:, None] & keep[None, :]
    dy = tl.load(grad + place(b, c, n, sb, sc, sn), mask=inside, other=0.0)
    dy = dy.to(tl.float32)
    if bits is not None:
        at = (b * C + c[:, None]) * W + (n // 32)[None, :]
        word = tl.load(bits + at, mask=inside, other=0)
        dy = tl.where(((word >> (n % 32)[None, :]) & 1) != 0, dy, 0.0)
    return dy


@triton.jit
def grad_attention(
    grad, bits, mask, value, peak, dattn, N, S, W, sb, sc, sn,
    C: tl.constexpr, SB: tl.constexpr, BN: tl.constexpr, BC: tl.constexpr,
    DTYPE: tl.constexpr, PREC: tl.constexpr,
):  # fmt: skip
    """E = D^T dY, (B, S, N); ``value`` is D^T over ``peak``, the largest
    number of each slot, to fit half precision."""
    t, b = tl.program_id(0), tl.program_id(1).to(tl.int64)
    n, s = t * BN + tl.arange(0, BN), tl.arange(0, SB)
    valid = find_valid(mask, b, n, N)
    total = tl.zeros((SB, BN), tl.float32)
    for start in range(0, C, BC):
        c = start + tl.arange(0, BC)
        dy = load_grad(grad, bits, b, c, n, valid, sb, sc, sn, W, C)
        d = tl.load(
            value + s[:, None] * C + c[None, :],
            mask=(s < S)[:, None] & (c < C)[None, :],
            other=0.0,
        )
        total += dot_fine(d, dy.to(DTYPE), DTYPE, PREC)
    total *= load_slot(peak, 0, s, S)[:, None]
    store_slots(dattn, total, b, s, n, N, S)


@triton.jit
def grad_value(
    grad, bits, mask, logits, lse, centre, sums, products,
    N, S, W, T, R, eps, sb, sc, sn,
    C: tl.constexpr, SB: tl.constexpr, BN: tl.constexpr, BC: tl.constexpr,
    DTYPE: tl.constexpr, PREC: tl.constexpr,
):  # fmt: skip
    """Sum dY, (B, R, C), and (P - centre) dY^T, (B, R, SB, C)."""
    block, r = tl.program_id(0), tl.program_id(1)
    b = tl.program_id(2).to(tl.int64)
    c, s = block * BC + tl.arange(0, BC), tl.arange(0, SB)
    norm = load_slot(lse, b, s, S)
    total = tl.zeros((BC,), tl.float32)
    product = tl.zeros((SB, BC), tl.float32)
    for t in range(r, T, R):
        n = t * BN + tl.arange(0, BN)
        valid = find_valid(mask, b, n, N)
        tile = load_slots(logits, b, s, n, N, S)
        attn = attend(tile, norm, s, valid, S, eps)
        attn, mean = centre_tile(attn, valid)
        if centre is not None:
            mean -= load_slot(centre, 0, s, S)
        scale = find_scale(attn)
        attn /= scale[:, None]
        dy = load_grad(grad, bits, b, c, n, valid, sb, sc, sn, W, C)
        own = tl.sum(dy, 1)
        total += own
        part = dot_fine(attn, tl.trans(dy.to(DTYPE)), DTYPE, PREC)
        product += part * scale[:, None] + mean[:, None] * own[None, :]
    at = b * R + r
    tl.store(sums + at * C + c, total, mask=c < C)
    tl.store(
        products + (at * SB + s[:, None]) * C + c[None, :],
        product,
        mask=(c < C)[None, :],
    )


@triton.jit
def grad_softmax(
    mask, logits, lse, centre, back, coupling, rest, top, dattn, sums,
    N, S, T, R, eps,
    SB: tl.constexpr, BN: tl.constexpr, DTYPE: tl.constexpr,
    PREC: tl.constexpr,
):  # fmt: skip
    """Go back through the norm's statistics, if any, and the softmax over
    slots, in place: E to U; and sum U over tokens, (B, R, S).

    In half precision ``coupling`` is over ``top``, the largest number of each
    row, and ``rest`` is what its rounding left."""
    r, b = tl.program_id(0), tl.program_id(1).to(tl.int64)
    s = tl.arange(0, SB)
    norm = load_slot(lse, b, s, S)
    total = tl.zeros((SB,), tl.float32)
    for t in range(r, T, R):
        n = t * BN + tl.arange(0, BN)
        valid = find_valid(mask, b, n, N)
        tile = load_slots(logits, b, s, n, N, S)
        attn = attend(tile, norm, s, valid, S, eps)
        grad = load_slots(dattn, b, s, n, N, S)
        if coupling is not None:
            middle = load_slot(centre, 0, s, S)
            centred = tl.where(valid[None, :], attn - middle[:, None], 0.0)
            grad -= load_slot(back, 0, s, S)[:, None]
            at = s[:, None] * S + s[None, :]
            inside = (s < S)[:, None] & (s < S)[None, :]
            k = tl.load(coupling + at, mask=inside, other=0.0).to(DTYPE)
            if rest is None:
                # Of use in registers alone: there is no half to fit into.
                scale = find_scale(centred)
                centred /= scale[:, None]
                k *= scale[None, :]
                peak = find_scale(k)
                k /= peak[:, None]
                part = tl.dot(k, centred, input_precision=PREC)
                grad -= part * peak[:, None]
            else:
                # Of each token, so that the product can be multiplied by it.
                scale = tl.max(tl.abs(centred), 0)
                scale = tl.where(scale > 0, scale, 1.0)
                centred /= scale[None, :]
                high = centred.to(DTYPE)
                low = (centred - high.to(tl.float32)).to(DTYPE)
                part = tl.dot(k, high, input_precision=PREC)
                part = tl.dot(k, low, part, input_precision=PREC)
                k = tl.load(rest + at, mask=inside, other=0.0).to(DTYPE)
                part = tl.dot(k, high, part, input_precision=PREC)
                part *= load_slot(top, 0, s, S)[:, None]
                grad -= part * scale[None, :]
        grad = attn * (grad - tl.sum(attn * grad, 0)[None, :])
        total += tl.sum(grad, 1)
        store_slots(dattn, grad, b, s, n, N, S)
    tl.store(sums + (b * R + r) * S + s, total, mask=s < S)


@triton.jit
def grad_tokens(
    grad, bits, mask, key, logits, lse, sums, dattn, dx,
    N, S, W, sb, sc, sn,
    C: tl.constexpr, SB: tl.constexpr, BN: tl.constexpr, BC: tl.constexpr,
    RESIDUAL: tl.constexpr, DTYPE: tl.constexpr, PREC: tl.constexpr,
):  # fmt: skip
    """Go back through the softmax over tokens, in place: U to dL; and
    dx = A^T dL + dY."""
    t, b = tl.program_id(0), tl.program_id(1).to(tl.int64)
    n, s = t * BN + tl.arange(0, BN), tl.arange(0, SB)
    valid = find_valid(mask, b, n, N)
    tile = load_slots(logits, b, s, n, N, S)
    tile -= load_slot(lse, b, s, S)[:, None]
    soft = tl.where((s < S)[:, None] & valid[None, :], tl.exp(tile), 0.0)
    dlogits = load_slots(dattn, b, s, n, N, S)
    dlogits -= soft * load_slot(sums, b, s, S)[:, None]
    store_slots(dattn, dlogits, b, s, n, N, S)
    # Of each token, so that the product can be multiplied by it.
    scale = tl.max(tl.abs(dlogits), 0)
    scale = tl.where(scale > 0, scale, 1.0)
    dlogits = (dlogits / scale[None, :]).to(DTYPE)
    for start in range(0, C, BC):
        c = start + tl.arange(0, BC)
        a = tl.load(
            key + s[None, :] * C + c[:, None],
            mask=(c < C)[:, None] & (s < S)[None, :],
            other=0.0,
        )
        y = tl.dot(a.to(DTYPE), dlogits, input_precision=PREC)
        y *= scale[None, :]
        if RESIDUAL:
            y += load_grad(grad, bits, b, c, n, n < N, sb, sc, sn, W, C)
        tl.store(
            dx + place(b, c, n, sb, sc, sn),
            y.to(dx.dtype.element_ty),
            mask=(c < C)[:, None] & (n < N)[None, :],
        )


@triton.jit
def grad_key(
    x, mask, dlogits, products, N, S, T, R, sb, sc, sn,
    C: tl.constexpr, SB: tl.constexpr, BN: tl.constexpr, BC: tl.constexpr,
    DTYPE: tl.constexpr, PREC: tl.constexpr,
):  # fmt: skip
    """Sum dL x^T, (B, R, SB, C)."""
    block, r = tl.program_id(0), tl.program_id(1)
    b = tl.program_id(2).to(tl.int64)
    c, s = block * BC + tl.arange(0, BC), tl.arange(0, SB)
    product = tl.zeros((SB, BC), tl.float32)
    for t in range(r, T, R):
        n = t * BN + tl.arange(0, BN)
        valid = find_valid(mask, b, n, N)
        dl = load_slots(dlogits, b, s, n, N, S)
        scale = find_scale(dl)
        dl = (dl / scale[:, None]).to(DTYPE)
        tokens = tl.load(
            x + place(b, c, n, sb, sc, sn),
            mask=(c < C)[:, None] & valid[None, :],
            other=0.0,
        )
        tokens = tl.trans(tokens.to(DTYPE))
        product += tl.dot(dl, tokens, input_precision=PREC) * scale[:, None]
    tl.store(
        products + ((b * R + r) * SB + s[:, None]) * C + c[None, :],
        product,
        mask=(c < C)[None, :],
    )
