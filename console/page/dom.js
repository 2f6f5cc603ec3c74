// Elements are made here and nowhere else. Text only ever enters as text: ids and names are other people's input.

const SVG = 'http://www.w3.org/2000/svg'

export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children)
}

export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children)
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) element.setAttribute(name, value)
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined))
  return element
}

export function byId(id) {
  return document.getElementById(id)
}

export function personLink(key, text = key) {
  return el('a', { href: personHash(key), class: 'who', title: key }, text)
}

export function personHash(key) {
  return '#' + encodeURIComponent(key).replaceAll('%3A', ':').replaceAll('%40', '@')
}

export function chip(stage) {
  return el('span', { class: 'chip', 'data-stage': stage ?? 'ended' }, stageName(stage))
}

export function stageName(stage) {
  return stage === null ? 'ended' : stage.replaceAll('_', '-')
}
