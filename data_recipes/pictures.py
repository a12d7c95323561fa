"""The one reader of pictures: any mode and depth that Pillow opens becomes 8 bits a channel, upright, what is
transparent laid on white.

Depth: 16 bits (`I;16`, `I`) are read as 0 to 65535, floats (`F`) as 0 to 1 or else 0 to 255 or 0 to 65535, the smallest
of these that holds the picture. Values beyond are refused: nobody knows what is black and what is white in them.
Transparency: an alpha channel, or a colour that stands for it, shows the background, which is white."""
import struct
import numpy as np
from .files import Unreadable

suffixes = '.jpg', '.jpeg', '.png', '.bmp', '.webp', '.ppm', '.pgm', '.pnm', '.tif', '.tiff', '.gif', '.jp2', '.avif'
background = 255, 255, 255
_damaged = struct.error, KeyError, SyntaxError, TypeError, ValueError  # what PIL raises for EXIF data that are none

# ---------------------------------------------------------------- upright

def upright(image):
    "An image turned as its EXIF data say, where these can be read."
    from PIL import ImageOps
    try: return ImageOps.exif_transpose(image)
    except _damaged: return image

def upright_size(image) -> tuple:
    "The size (width, height) that `upright` gives, from the header alone."
    from PIL import Image
    if image.format == 'TIFF': return image.size  # PIL turns it itself
    try: lies_on_its_side = Image.Image.getexif(image).get(0x112) in (5, 6, 7, 8)  # PNG's own getexif reads all of it
    except _damaged: return image.size
    return image.size[::-1] if lies_on_its_side else image.size

# ---------------------------------------------------------------- modes and depths

def _scaled(image, name: str):
    "A picture of one channel with more than 8 bits as one with 8."
    from PIL import Image
    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all(): raise Unreadable(f"{name} has values that are no numbers")
    low, high = (float(values.min()), float(values.max())) if values.size else (0., 0.)
    tops = (1., 255., 65535.) if image.mode == 'F' else (65535.,)
    top = next((top for top in tops if high <= top), None)
    if low < 0 or top is None:
        raise Unreadable(f"{name} has values from {low:g} to {high:g}; they are from 0 to {tops[-1]:g}: "
                         "convert it to 8 or 16 bits")
    return Image.fromarray((values * (255 / top)).round().astype(np.uint8))

def is_transparent(image) -> bool:
    "Whether parts of a picture may be transparent, from the header alone."
    return image.mode in ('LA', 'La', 'PA', 'RGBA', 'RGBa') or 'transparency' in image.info

def _on_background(image):
    "A picture with what is transparent laid on the background."
    from PIL import Image
    image = image.convert('LA' if image.mode == 'La' else 'RGBA').convert('RGBA')
    return Image.alpha_composite(Image.new('RGBA', image.size, (*background, 255)), image)

def normal(image, mode: str = 'RGB', name: str = 'the picture'):
    "A PIL image of any mode as one of mode RGB or L, upright. Unreadable, a ValueError, for values without a scale."
    image = upright(image)
    deep = image.mode[0] in 'IF'  # I, I;16, I;16B, I;16L, F
    if deep: image = _scaled(image, name)
    elif is_transparent(image): image = _on_background(image)
    if image.mode in ('LAB', 'HSV', 'YCbCr', 'CMYK') and mode != 'RGB': image = image.convert('RGB')
    return image.convert(mode)

# ---------------------------------------------------------------- files

class Source:
    "A picture that is no file; everything that takes a path takes it too."
    def picture(self):
        "The picture as PIL has it, for the caller to close."
        raise TypeError(f"{type(self).__name__} has no picture()")

def _opened(source):
    from PIL import Image
    return source.picture() if isinstance(source, Source) else Image.open(source)

def _checked(path, read):
    "What `read` makes of an opened picture. ValueError that names a file that is missing or cannot be read."
    from PIL import Image, UnidentifiedImageError
    try:
        with _opened(path) as image: return read(image)
    except FileNotFoundError: raise Unreadable(f"there is no file {path}") from None
    except Unreadable: raise
    except ValueError as error:
        raise Unreadable(f"{path} cannot be read as an image ({error})") from None
    except (UnidentifiedImageError, OSError, SyntaxError, struct.error, EOFError, MemoryError,
            Image.DecompressionBombError) as error:
        raise Unreadable(f"{path} cannot be read as an image ({type(error).__name__})") from None

def opened(path, mode: str = 'RGB'):
    "A file as a PIL image of mode RGB or L, whole and upright. ValueError that names one that cannot be read."
    def read(image):
        image.load()
        return normal(image, mode, str(path))
    return _checked(path, read)

def as_it_is(path):
    "A file as PIL reads it, whole: labels stay labels. ValueError that names one that cannot be read."
    def read(image):
        image.load()
        return image
    return _checked(path, read)

def size_of(path, turned: bool = True) -> tuple:
    "The size (width, height) of a picture, from its header; of an upright one, where `turned`."
    return _checked(path, lambda image: upright_size(image) if turned else image.size)

def in_words(sizes: list) -> str:
    "Sizes (width, height) for a person: the smallest, the largest, and the one in the middle."
    def said(size): return f'{size[0]} x {size[1]}'
    ordered = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    least, middle, most = ordered[0], ordered[len(ordered) // 2], ordered[-1]
    if least == most: return f'{said(least)} pixels'
    return f'{said(least)} to {said(most)} pixels, the middle one {said(middle)}'

def transparent(files) -> list:
    "Of pictures those that may be transparent, from their headers; what cannot be read is none."
    def may_be(path):
        try: return _checked(path, is_transparent)
        except ValueError: return False
    return [path for path in files if may_be(path)]
