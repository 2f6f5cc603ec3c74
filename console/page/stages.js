// How many people are in each stage.

import { byId, chip, el } from './dom.js'

const MEANINGS = {
  prospect: 'looking around',
  decision: 'about to decide',
  holding: 'has money invested',
  post_redemption: 'money came back',
  dormant: 'silent for long',
}
const count = new Intl.NumberFormat('en')

export async function showStages() {
  const answer = await fetch('/api/stages')
  if (!answer.ok) return
  const { stages } = await answer.json()
  const list = byId('stages')
  if (!list.children.length) draw(list, Object.keys(stages))
  for (const [stage, people] of Object.entries(stages)) {
    const number = list.querySelector(`[data-count="${stage}"]`)
    const text = count.format(people)
    if (number.textContent !== text) number.textContent = text
    byId('share').querySelector(`[data-stage="${stage}"]`).style.flexGrow = people
  }
}

function draw(list, stages) {
  for (const stage of stages) {
    list.append(el('div', { 'data-stage': stage },
      el('dt', {}, chip(stage), el('span', { class: 'soft' }, MEANINGS[stage] ?? '')),
      el('dd', { 'data-count': stage }, '0'),
    ))
    byId('share').append(el('span', { 'data-stage': stage }))
  }
}
