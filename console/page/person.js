// One person's card: where she stands, and why.

import { bars } from './bars.js'
import { byId, chip, el, personLink } from './dom.js'
import { fromNow, longTime, plain, score } from './words.js'

let opened = null
let shown = ''

export function openPerson(key) {
  opened = key
  shown = ''
  if (key === null) draw(...hint())
  else refreshPerson().then(bringIntoView)
}

// On a phone the card stands above the list, where whoever chose a change does not see it.
function bringIntoView() {
  if (matchMedia('(max-width: 52rem)').matches) byId('person').scrollIntoView({ behavior: 'smooth' })
}

// Drawn only when something differs, so that what somebody selects or reads stays where it is.
export async function refreshPerson() {
  const key = opened
  if (key === null) return
  const person = await ask(key, '')
  const found = person.body
  if (person.status === 200 && found.stage === undefined) return show(key, found, () => linked(found))
  if (person.status !== 200) return show(key, found, () => missing(key, found))
  const timeline = (await ask(found.person, '/timeline')).body
  const { as_of: asOf, ...rest } = found
  show(key, [rest, timeline, asOf.slice(0, 13)], () => card(found, timeline))
}

async function ask(key, what) {
  try {
    const answer = await fetch(`/api/persons/${encodeURIComponent(key)}${what}`)
    return { status: answer.status, body: await answer.json() }
  } catch {
    return { status: 0, body: { message: 'The console does not answer.', detail: 'It is asked again every few seconds.' } }
  }
}

function show(key, state, make) {
  const text = JSON.stringify(state)
  if (key !== opened || text === shown) return // somebody else was opened meanwhile, or nothing is new
  shown = text
  draw(...make())
}

function draw(...children) {
  byId('person').replaceChildren(...children)
}

function hint() {
  return [el('h2', {}, 'Person'), el('p', { class: 'empty' }, 'Choose a change, or search for a person above.')]
}

function missing(key, error) {
  return [head(key), el('p', { class: 'empty' }, error.message, ' ', el('span', { class: 'soft' }, error.detail))]
}

function linked(found) {
  return [head(found.person), el('p', { class: 'empty' }, 'This visitor turned out to be ', personLink(found.linked_to), '.')]
}

function head(key, ...more) {
  return el('div', { class: 'head' }, el('h2', { class: 'who', title: key }, key), ...more,
    el('a', { href: '#', class: 'close', 'aria-label': 'Close' }, '×'))
}

function card(person, timeline) {
  const provisional = person.confirmed ? null : el('span', { class: 'mark', 'data-mark': 'provisional' }, 'provisional')
  return [
    head(person.person, chip(person.stage), provisional),
    person.linked_to ? el('p', { class: 'soft' }, 'Also linked to ', personLink(person.linked_to), '.') : null,
    el('div', { class: 'figures' },
      figure('score, 14 days', score(person.score)),
      figure('decision score', score(person.decision_score)),
      figure('intent', person.intent, person.tier ? `tier: ${person.tier}` : null),
      figure('preference', person.preference?.category ?? '–', share(person.preference))),
    evidence(person),
    timelineOf(person, timeline),
    positions(person.positions),
    past(timeline.changes ?? []),
    facts(person),
  ].filter((part) => part !== null)
}

function figure(name, value, more = null) {
  return el('div', {}, el('span', { class: 'soft' }, name), el('b', {}, value), more ? el('span', { class: 'soft' }, more) : null)
}

function share(preference) {
  return preference ? `${Math.round(preference.share * 100)} % of dwell` : null
}

function evidence(person) {
  if (!person.evidence.length) {
    return part('Evidence', el('p', { class: 'soft' }, 'Nothing with weight since the last purchase or redemption.'))
  }
  const rows = person.evidence.map((one) => [
    plain(one.behaviour), one.count, score(one.weight), score(one.count * one.weight),
  ])
  const sum = el('tr', {}, el('th', { scope: 'row', colspan: 3 }, 'decision score'), el('td', { class: 'n' }, score(person.decision_score)))
  return part('Evidence', table(['behaviour', 'count', 'weight', 'sum'], rows, [1, 2, 3], sum))
}

function timelineOf(person, timeline) {
  const hours = timeline.hours ?? []
  return part('What happened when',
    bars('per day, last 14 days', hours, person.as_of, 24, 14),
    bars('per hour, last 48 hours', hours, person.as_of, 1, 48))
}

function positions(held) {
  const orders = Object.entries(held)
  if (!orders.length) return null
  const rows = orders.map(([order, one]) => [
    order, [one.category, one.product_id].filter(Boolean).join(' / ') || '–',
    [one.amount, one.currency].filter(Boolean).join(' ') || '–', stateOf(one),
  ])
  return part('Positions', table(['order', 'product', 'amount', 'state'], rows, [2]))
}

function stateOf(position) {
  const doubt = (confirmed) => (confirmed ? '' : ', provisional')
  if (position.closings.length) {
    return `closed ${longTime(position.closings[0].at)}${doubt(position.closings.every((one) => one.confirmed))}`
  }
  const until = position.matures_at ? ` until ${longTime(position.matures_at)}` : ''
  return `held${until}${doubt(position.confirmed)}`
}

function past(changes) {
  if (!changes.length) return null
  return part('Changes of stage', el('ol', { class: 'past' }, [...changes].reverse().map((one) => el('li', {},
    el('time', { datetime: one.at, title: one.at }, longTime(one.at)),
    el('span', { class: 'way' }, chip(one.from), el('span', { class: 'arrow', 'aria-label': 'to' }, '→'), chip(one.to)),
    one.confirmed ? null : el('span', { class: 'mark', 'data-mark': 'provisional' }, 'provisional')))))
}

function facts(person) {
  const known = [
    ['Customer', `${person.customer}, funds ${person.funds}`],
    ['Next due', person.next_due && `${longTime(person.next_due)} (${fromNow(person.next_due)})`],
    ['Last activity', person.last_activity && longTime(person.last_activity)],
    ['Visits in 30 days', person.visits_30_days],
    ['Last place', person.last_place],
    ['Channel', person.channel],
    ['Milestones', Object.entries(person.milestones).map(([name, at]) => `${plain(name)} ${longTime(at)}`).join('; ')],
    ['Devices', person.devices.length || null],
  ].filter(([, value]) => value !== null && value !== '')
  return part('Also known', el('dl', { class: 'facts' }, known.map(([name, value]) => [el('dt', {}, name), el('dd', {}, String(value))])))
}

function part(title, ...content) {
  return el('section', {}, el('h3', {}, title), ...content)
}

function table(heads, rows, numbers, foot = null) {
  const kind = (index) => (numbers.includes(index) ? 'n' : null)
  return el('div', { class: 'table' }, el('table', {},
    el('thead', {}, el('tr', {}, heads.map((text, index) => el('th', { scope: 'col', class: kind(index) }, text)))),
    el('tbody', {}, rows.map((row) => el('tr', {}, row.map((cell, index) => el('td', { class: kind(index) }, String(cell)))))),
    foot ? el('tfoot', {}, foot) : null))
}
