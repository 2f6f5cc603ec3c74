// What somebody did over time, as bars in plain SVG.

import { el, svg } from './dom.js'
import { longTime, plain, shortDay } from './words.js'

const HOUR = 3600e3
const HEIGHT = 44
const WIDTH = 336

// `hours` is the timeline's list; one bar covers `span` hours, the last bar ends with the hour of `until`.
export function bars(title, hours, until, span, many) {
  const end = (Math.floor(new Date(until) / HOUR) + 1) * HOUR
  const begin = end - many * span * HOUR
  const sums = Array.from({ length: many }, () => ({ total: 0, counts: {} }))
  for (const { hour, counts } of hours) {
    const slot = sums[Math.floor((new Date(hour) - begin) / (span * HOUR))]
    if (slot) add(slot, counts)
  }
  const most = Math.max(...sums.map((slot) => slot.total))
  const step = WIDTH / many
  return el('figure', {},
    el('figcaption', {}, el('span', {}, title), el('span', { class: 'soft' }, most ? `peak ${most}` : 'nothing')),
    svg('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', role: 'img', 'aria-label': title },
      sums.map((slot, index) => bar(slot, index * step, step, most, begin + index * span * HOUR))),
    el('div', { class: 'axis soft' }, el('span', {}, shortDay(begin)), el('span', {}, shortDay(end - 1))),
  )
}

function add(slot, counts) {
  for (const [behaviour, count] of Object.entries(counts)) {
    slot.total += count
    slot.counts[behaviour] = (slot.counts[behaviour] ?? 0) + count
  }
}

function bar(slot, x, step, most, begin) {
  const height = slot.total ? Math.max(2, (slot.total / most) * (HEIGHT - 2)) : 1
  const told = Object.entries(slot.counts).map(([behaviour, count]) => `${plain(behaviour)} × ${count}`)
  return svg('rect', {
    class: slot.total ? 'some' : 'none', x: x + step * 0.1, width: step * 0.8, y: HEIGHT - height, height,
  }, svg('title', {}, `${longTime(begin)}: ${told.join(', ') || 'nothing'}`))
}
