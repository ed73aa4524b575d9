"""CRC-32C, the checksum of TensorFlow's checkpoints, in NumPy at several gigabytes a second.

Written by hand; notebook 07 computes the same one bit at a time. A crc is the remainder of a
polynomial over GF(2), where adding is XOR, and a remainder is linear: that of a sum is the sum of
the remainders. So a message can be cut in two, r(first · x^n + second) = r(x^n · r(first)) +
r(second), and `remainder` moves its first half onto its second until one word is left. `fold` goes
further: x^6777 + x^484 + x^100 + 1 is a multiple of the polynomial, so a bit may be deleted if it
is added at three places further down. (a + b)² = a² + b² here, so squaring doubles the exponents,
and what holds for bits holds for units of 2, 4, ... 256 bits: XORs of long arrays.

A crc is a uint32 with the highest power of x in its lowest bit, as in Castagnoli's reflected
polynomial below, and files store it masked. Where the package google-crc32c is installed, it does
the work with the processor's own instruction.
"""

from functools import cache
from typing import Any

import numpy as np

POLYNOMIAL = 0x82F63B78  # Castagnoli's; x^32 is left out, x^31 is the lowest bit


def mask(crc: int) -> int:
    """Return the form in which files store a crc; `unmask` undoes it."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32


def unmask(stored: int) -> int:
    """Return the crc that a file stores masked."""
    rotated = (stored - 0xA282EAD8) % 2**32
    return (rotated << 15 | rotated >> 17) % 2**32


@cache
def zeros_table(k: int) -> np.ndarray:
    """Return what 2**k bytes of zeros make of each value of each byte of a crc: (4, 256)."""
    if k:
        return advance(zeros_table(k - 1), 2 ** (k - 1))
    table = np.arange(256, dtype=np.uint32) << np.arange(0, 32, 8, dtype=np.uint32)[:, None]
    for _ in range(8):
        table = (table >> 1) ^ (table & 1) * np.uint32(POLYNOMIAL)
    return table


def advance(crcs: np.ndarray, n: int) -> np.ndarray:
    """Return the crcs, uint32 of any shape, after n more bytes of zeros."""
    for k in range(n.bit_length()):
        if n >> k & 1:
            table, octets = zeros_table(k), crcs.reshape(-1, 1).view(np.uint8)  # (N, 4) bytes
            columns = (table[i].take(octets[:, i]) for i in range(4))
            crcs = np.bitwise_xor.reduce(list(columns)).reshape(crcs.shape)  # (N,) -> as given
    return crcs


def remainder(octets: np.ndarray) -> np.ndarray:
    """Return the remainder of a message, (1,), by moving its first half onto its second."""
    size = 2 ** max(2, (len(octets) - 1).bit_length())
    words = np.zeros(size // 4, np.uint32)
    words.view(np.uint8)[size - len(octets) :] = octets  # zeros in front change nothing
    while len(words) > 1:
        first, second = np.split(words, 2)
        words = advance(first, second.nbytes) ^ second
    return advance(words, 4)


LAGS = 6293, 6677, 6777  # because x^6777 = x^484 + x^100 + 1 up to a multiple of the polynomial


def fold(octets: np.ndarray, unit: int) -> np.ndarray:
    """Shorten a message to 6777 units without changing its remainder.

    A unit, of 1, 2, 4 ... bytes, may be deleted where it is added to those that follow it by LAGS:
    squaring a polynomial over GF(2) only doubles its exponents, so what holds for bits holds for
    any power of two of them.
    """
    step, middle, size = (lag * unit for lag in LAGS)
    first = (len(octets) - size) % step  # what remains is a multiple of the step
    last, new = np.zeros(size, np.uint8), np.empty(size, np.uint8)  # 6777 units, sums included
    last[size - first :] = octets[:first]
    for start in range(first, len(octets) - size, step):
        new[: size - step] = last[step:]
        part = new[size - step :]
        np.bitwise_xor(octets[start : start + step], last[:step], out=part)
        part ^= last[size - middle :][:step]
        part ^= last[size - step :]
        last, new = new, last
    rest = octets[-size:].copy()
    for lag in (step, middle, size):
        rest[:lag] ^= last[size - lag :]
    return rest


def crc_by_folding(data: Any) -> int:
    """Return the CRC-32C of bytes, or of the bytes of a contiguous array.

    >>> hex(crc_by_folding(b"123456789"))
    '0xe3069283'
    """
    octets = rest = np.frombuffer(data, np.uint8)
    for unit in (32, 1):
        if len(rest) > 2 * unit * LAGS[-1]:
            rest = fold(rest, unit)
    ones = np.array([0xFFFFFFFF], np.uint32)  # a crc begins with ones, and ends with them
    return int((remainder(rest) ^ advance(ones, len(octets)) ^ ones)[0])


try:
    import google_crc32c
except ImportError:  # optional: ours is the fallback
    google_crc32c = None


def crc32c(data: Any) -> int:
    """Return the CRC-32C of bytes, or of the bytes of a contiguous array.

    Raises TypeError for an object without bytes, and ValueError for an array with gaps.
    """
    octets = np.frombuffer(data, np.uint8)
    return google_crc32c.value(octets) if google_crc32c else crc_by_folding(octets)
