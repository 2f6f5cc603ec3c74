// What happened, in plain words.

const number = new Intl.NumberFormat('en', { maximumFractionDigits: 3, minimumFractionDigits: 1 })
const clock = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' })
const day = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short' })
const minute = new Intl.DateTimeFormat('en-GB', {
  day: 'numeric', month: 'short', year: 'numeric', hour: '2-digit', minute: '2-digit',
})
const relative = new Intl.RelativeTimeFormat('en', { numeric: 'auto' })
const UNITS = [['day', 86400e3], ['hour', 3600e3], ['minute', 60e3]]

export function score(value) {
  return number.format(value)
}

export function shortTime(instant) {
  const at = new Date(instant)
  return Date.now() - at < 20 * 3600e3 ? clock.format(at) : day.format(at) + ' ' + clock.format(at).slice(0, 5)
}

export function longTime(instant) {
  return minute.format(new Date(instant))
}

export function shortDay(instant) {
  return day.format(new Date(instant))
}

export function fromNow(instant) {
  const away = new Date(instant) - Date.now()
  const [unit, size] = UNITS.find(([, size]) => Math.abs(away) >= size) ?? UNITS[2]
  return relative.format(Math.round(away / size), unit)
}

export function plain(name) {
  return name.replaceAll('_', ' ')
}

export function causeOf(change) {
  const { kind, order_id: order, trusted } = change.cause
  if (change.merged_into) return 'turned out to be'
  if (kind === 'erasure') return 'erased on request'
  if (kind === 'transfer') return 'an anonymous visitor turned out to be this user'
  if (kind === 'definitions') return 'new definitions took effect'
  if (kind === 'backfill') return 'computed anew under other definitions'
  if (kind === 'timer') return timerWords(change, order)
  if (order) return `order ${order}, ${trusted ? 'stated by a trusted source' : 'as the page says, not yet confirmed'}`
  return change.to === 'decision' ? 'what was done on the site' : 'activity on the site'
}

function timerWords(change, order) {
  if (change.to === null) return 'silent for so long that it was forgotten'
  if (order && change.retracts) return `order ${order} was not confirmed in time`
  if (order) return change.to === 'post_redemption' ? `order ${order} has matured` : `time passed for order ${order}`
  if (change.to === 'dormant') return 'silent for a long time'
  if (change.from === 'decision') return 'earlier interest is too long ago to count'
  return 'time passed'
}

export function evidenceOf(change, most = 3) {
  const top = [...change.evidence].sort((a, b) => b.count * b.weight - a.count * a.weight)
  const told = top.slice(0, most).map((one) => `${plain(one.behaviour)} × ${one.count}`)
  return top.length > most ? [...told, `${top.length - most} more`] : told
}

export function marksOf(change) {
  const marks = []
  if (change.to === null) marks.push(['end', 'life ended'])
  if (change.retracts) marks.push(['retraction', 'takes back'])
  if (!change.confirmed) marks.push(['provisional', 'provisional'])
  else if (change.from === change.to) marks.push(['confirmed', 'now confirmed'])
  if (!change.actionable) marks.push(['quiet', 'for information'])
  return marks
}

export const MARK_MEANINGS = {
  end: 'The person was forgotten, erased, or turned out to be somebody already known.',
  retraction: 'An earlier change rested on a fact that was taken back.',
  provisional: 'No trusted source has confirmed it yet.',
  confirmed: 'A trusted source has confirmed the stage.',
  quiet: 'Nobody should be contacted because of it: history, or nothing new about the person.',
}
