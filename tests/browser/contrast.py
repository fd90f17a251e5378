"""A script for a browser that finds the contrast of each text of a page with what is behind it."""

CONTRAST = r"""
const canvas = document.createElement("canvas"), pen = canvas.getContext("2d", {willReadFrequently: true});
const pixel = (...colours) => {
  pen.clearRect(0, 0, 1, 1);
  for (const colour of colours) { pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1); }
  return [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3);
};
const behind = (element) => {
  const layers = [];
  for (let e = element; e; e = e.parentElement) layers.unshift(getComputedStyle(e).backgroundColor);
  return pixel("white", ...layers);
};
const light = (rgb) => {
  const [r, g, b] = rgb.map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const found = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const node = walker.currentNode, element = node.parentElement, style = getComputedStyle(element);
  if (!node.data.trim() || !element.getClientRects().length) continue;
  const ink = pixel(element.closest("svg") ? style.fill : style.color), paper = behind(element);
  const [a, b] = [light(ink), light(paper)].sort((x, y) => y - x);
  found.push([(a + 0.05) / (b + 0.05), node.data.trim().slice(0, 40), element.tagName, ink.join(), paper.join()]);
}
return found;
"""
