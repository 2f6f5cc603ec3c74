// The list of changes, newest first.

import { byId, chip, el, personHash, personLink } from './dom.js'
import { MARK_MEANINGS, causeOf, evidenceOf, marksOf, score, shortTime } from './words.js'

export const MOST = 200

export function resetChanges(changes) {
  byId('changes').replaceChildren(...changes.map((change) => row(change, false)).reverse())
  settle()
}

export function addChanges(changes) {
  const list = byId('changes')
  list.prepend(...changes.map((change) => row(change, true)).reverse())
  while (list.children.length > MOST) list.lastElementChild.remove()
  settle()
}

export function markOpen(key) {
  for (const item of byId('changes').children) item.classList.toggle('open', item.dataset.person === key)
}

function settle() {
  const shown = byId('changes').children.length
  const empty = byId('empty')
  empty.hidden = shown > 0
  empty.textContent = 'No changes yet. Open the demo shop, look at some funds and click Invest: the change appears here.'
  byId('count').textContent = shown === 0 ? '' : shown === MOST ? `newest ${MOST}` : String(shown)
}

function row(change, fresh) {
  const item = el('li', { 'data-person': change.person, 'data-to': change.to ?? 'ended', class: fresh ? 'fresh' : null },
    el('div', { class: 'what' },
      el('time', { datetime: change.at, title: change.at }, shortTime(change.at)),
      personLink(change.person),
      el('span', { class: 'way' }, chip(change.from), el('span', { class: 'arrow', 'aria-label': 'to' }, '→'), chip(change.to)),
      marksOf(change).map(([mark, text]) => el('span', { class: 'mark', 'data-mark': mark, title: MARK_MEANINGS[mark] }, text)),
    ),
    el('div', { class: 'why' }, why(change)),
  )
  item.addEventListener('click', (event) => {
    if (!event.target.closest('a') && getSelection().isCollapsed) location.hash = personHash(change.person)
  })
  return item
}

function why(change) {
  const parts = [el('span', {}, causeOf(change), change.merged_into ? [' ', personLink(change.merged_into)] : [])]
  const evidence = change.merged_into ? [] : evidenceOf(change)
  if (evidence.length) {
    parts.push(el('span', {}, evidence.join(', ')))
    parts.push(el('span', {}, 'score ', el('b', {}, score(change.decision_score))))
  }
  return parts
}
