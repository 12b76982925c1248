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
    return { first, weights: raw.map((w) => Math.trunc((w / sum) * 2 ** BITS + Math.sign(w) * 0.5)) };
  });
}

/** Scales lines of RGBA pixels: pixel `i` of line `j` is written to `i * step + j * lineStep`. */
function scale(source, size, weighed, target, step, lineStep) {
  for (let line = 0; line * size * 4 < source.length; line++) {
    weighed.forEach(({ first, weights }, index) => {
      const start = (line * size + first) * 4;
      const out = (index * step + line * lineStep) * 4;
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
  const across = { size: bitmap.width, weighed: weigh(bitmap.width, left, right, width), step: 1 };
  const down = { size: bitmap.height, weighed: weigh(bitmap.height, top, bottom, height), step: width };
  // as in Pillow 13, whose order of the two passes depends on the shape; the columns are then the lines
  const isTall = bitmap.height > height && bitmap.height - height > 2 * (bitmap.width - width);
  const [one, other] = isTall ? [down, across] : [across, down];
  const between = new Uint8ClampedArray(one.weighed.length * other.size * 4);
  const canvas = new OffscreenCanvas(one.size, Math.min(BAND, other.size));
  const context = canvas.getContext("2d", { alpha: false, willReadFrequently: true });
  context.imageSmoothingEnabled = false;
  context.fillStyle = "white";
  for (let line = 0; line < other.size; line += BAND) {
    const lines = Math.min(BAND, other.size - line);
    context.resetTransform();
    context.fillRect(0, 0, one.size, lines);
    if (isTall) context.transform(0, 1, 1, 0, 0, 0);
    context.drawImage(bitmap, isTall ? -line : 0, isTall ? 0 : -line);
    const { data } = context.getImageData(0, 0, one.size, lines);
    scale(data, one.size, one.weighed, between.subarray(line * 4), other.size, 1);
  }
  const pixels = new ImageData(width, height);
  scale(between, other.size, other.weighed, pixels.data, other.step, one.step);
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
