"""Characters that look like Latin letters (facts of Unicode TR 39, confusables, and of letter-like forms it leaves out).

Left out are digits and mathematical signs, which have a meaning of their own beside Latin text, and flags.
"""

from __future__ import annotations

_OF = {
    "a": "а α ᴀ Ꭺ ᗅ ⍺ ꓮ ɑ Α А",
    "b": "в β ʙ ƀ ɓ Ƅ Ь Ꮟ Ᏼ ᑲ ᖯ ᗷ ꓐ Ꞵ Β В",
    "c": "с ᴄ ƈ ȼ ϲ Ϲ Ꮯ Ⲥ ⲥ ꓚ ꮯ С 𐐕 𐐽",
    "d": "ԁ δ ᴅ đ ɗ ɖ ᑯ ᗞ ᗪ ꓒ ꓓ Ꭰ Ꮷ",
    "e": "е ε ᴇ ɇ ɛ ҽ Ꭼ ℮ ⴹ ꓰ ꬲ Ε Е",
    "f": "ғ ꜰ ƒ Ϝ ϝ ք ᖴ ẝ ꓝ ꞙ ꬵ",
    "g": "ɡ ɢ ǥ ɠ ց Ԍ ԍ Ꮐ Ᏻ ᶃ ꓖ",
    "h": "һ ʜ ħ ɦ հ н Н Ꮋ Ꮒ ᕼ Ⲏ ꓧ Η",
    "i": "і ι ɪ ı ɨ ɩ Ꭵ ⍳ ꙇ ꭵ Ι І",
    "j": "ј ᴊ ɉ ʝ Ϳ ϳ Ꭻ ᒍ ꓙ Ј",
    "k": "к κ ᴋ ƙ Ꮶ ᛕ Ⲕ ꓗ Κ К",
    "l": "ӏ ʟ ł ƚ ɫ ɭ ǀ Ꮮ ᒪ Ⲓ Ⳑ ⵏ ꓡ ꓲ",
    "m": "м ᴍ ɱ Ϻ ϻ Ꮇ ᗰ Ⲙ ꓟ Μ М",
    "n": "п ɴ ƞ ɲ η ո ռ Ⲛ ꓠ Ν",
    "o": "о ο ᴏ ø ɵ ᴑ σ օ Օ ჿ Ⲟ ⲟ ⵔ ꓳ ꬽ 𐐄 𐐬 𐓂 𐓪 Ο О",
    "p": "р ρ ᴘ ƥ Ꮲ ᑭ ⍴ Ⲣ ⲣ ꓑ Ρ Р",
    "q": "ԛ ʠ գ զ ⵕ",
    "r": "г ʀ ɍ ɽ Ʀ Ꭱ Ꮢ ᖇ ᴦ ⲅ ꓣ ꭇ ꮁ",
    "s": "ѕ ꜱ ʂ ƽ Տ Ꮥ Ꮪ ꓢ ꮪ 𐐠 𐑈 Ѕ",
    "t": "т τ ᴛ ŧ ƭ ʈ Ꭲ Ⲧ ꓔ Τ Т",
    "u": "υ ᴜ ʉ ս Ս ᑌ ꓴ ꞟ ꭎ ꭒ 𐓎 𐓶",
    "v": "ν ѵ ᴠ ʋ Ꮩ ᐯ ⴸ ꓦ ꛟ ꮩ",
    "w": "ԝ ω ѡ ᴡ ɯ ա Ꮃ Ꮤ ꓪ ꮃ",
    "x": "х χ Ⲭ ᕁ ᙭ ⵝ ꓫ Ꭓ Χ Х",
    "y": "у ʏ γ ɏ ƴ ɣ Ү ү ყ Ꭹ Ꮍ ᶌ ỿ Ⲩ ꓬ ꭚ Υ У",
    "z": "ᴢ ƶ ȥ ʐ Ꮓ ꓜ ꮓ Ζ ζ",
    "'": "’ ‘",
    '"': "“ ”",
    "-": "‐ –",
}  # fmt: skip

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
LOOKALIKES = {char: letter for letter, chars in _OF.items() for char in chars.split()} | {
    # White letters in black circles and squares: NFKC knows the black ones only.
    chr(first + at): letter
    for first in (0x1F150, 0x1F170)
    for at, letter in enumerate(_LETTERS)
}
