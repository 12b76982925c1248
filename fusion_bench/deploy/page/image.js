// An image file as the model takes it: upright, on white, the middle cropped, scaled with Pillow's Lanczos filter.

const BAND = 512; // rows that are read from the canvas at once: phones limit its size
const BITS = 22; // of a weight's fraction, as in Pillow

function lanczos(x) {
  const sinc = (x) => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));
  return x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0;
}

/** Weights by which `count` pixels are made of those from `from` to `to` of a line of `size`. */
function weigh(size, from, to, count) {
  const scale = Math.fround(to - from) / count;
  const wide = Math.max(scale, 1);
  return Array.from({ length: count }, (_, index) => {
    const centre = from + (index + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - 3 * wide + 0.5));
    const last = Math.min(size, Math.trunc(centre + 3 * wide + 0.5));
    const raw = Array.from({ length: last - first }, (_, j) => lanczos((first + j - centre + 0.5) * (1 / wide)));
    const sum = raw.reduce((a, b) => a + b, 0);
    const weights = raw.map((w) => Math.trunc((w / sum) * 2 ** BITS + Math.sign(w) * 0.5));
    return { first, weights };
  });
}

/** Scales the lines of RGBA pixels, and writes them as columns from column `column` of `columns`. */
function scale(source, size, weighed, target, columns, column = 0) {
  for (let line = 0; line * size * 4 < source.length; line++) {
    weighed.forEach(({ first, weights }, index) => {
      const start = (line * size + first) * 4;
      const out = (index * columns + column + line) * 4;
      for (let channel = 0; channel < 3; channel++) {
        let sum = 1 << (BITS - 1);
        for (let j = 0; j < weights.length; j++) sum += source[start + j * 4 + channel] * weights[j];
        target[out + channel] = sum >> BITS;
      }
      target[out + 3] = 255;
    });
  }
}

/** The largest box of the aspect ratio of [height, width] in the middle: left, top, right, bottom. */
function crop(bitmap, height, width) {
  const ratio = width / height;
  const is_wide = bitmap.width / bitmap.height >= ratio;
  const wide = is_wide && bitmap.width / bitmap.height !== ratio ? ratio * bitmap.height : bitmap.width;
  const high = is_wide ? bitmap.height : bitmap.width / ratio;
  const [left, top] = [(bitmap.width - wide) / 2, (bitmap.height - high) / 2];
  return [left, top, left + wide, top + high].map(Math.fround);
}

/** Pixels of a file, as ImageData of the model's [height, width, channel]; grey has equal channels. */
export async function fit(file, [height, width, channels]) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" });
  } catch {
    throw new Error("This file is no image that the browser can read, or it is damaged.");
  }
  const [left, top, right, bottom] = crop(bitmap, height, width);
  const across = weigh(bitmap.width, left, right, width);
  const lines = new Uint8ClampedArray(width * bitmap.height * 4);
  const canvas = new OffscreenCanvas(bitmap.width, Math.min(BAND, bitmap.height));
  const context = canvas.getContext("2d", { alpha: false, willReadFrequently: true });
  for (let row = 0; row < bitmap.height; row += BAND) {
    const rows = Math.min(BAND, bitmap.height - row);
    context.fillStyle = "white";
    context.fillRect(0, 0, bitmap.width, rows);
    context.drawImage(bitmap, 0, -row);
    scale(context.getImageData(0, 0, bitmap.width, rows).data, bitmap.width, across, lines, bitmap.height, row);
  }
  const pixels = new ImageData(width, height);
  scale(lines, bitmap.height, weigh(bitmap.height, top, bottom, height), pixels.data, width);
  bitmap.close();
  if (channels === 1) {
    for (let i = 0; i < pixels.data.length; i += 4) {
      const [red, green, blue] = pixels.data.subarray(i, i + 3);
      pixels.data.fill((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16, i, i + 3);
    }
  }
  return pixels;
}

/** The same as a PNG file, and its address for an <img>. */
export async function small(file, shape) {
  const pixels = await fit(file, shape);
  const canvas = new OffscreenCanvas(pixels.width, pixels.height);
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return canvas.convertToBlob();
}
