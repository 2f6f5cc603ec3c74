// The live page: people per stage, changes as they happen, one person.

import { MOST, addChanges, markOpen, resetChanges } from './changes.js'
import { byId, personHash } from './dom.js'
import { Feed } from './feed.js'
import { openPerson, refreshPerson } from './person.js'
import { showStages } from './stages.js'

const EVERY_MS = 5000
const AT_ONCE_MS = 300

let opened = null
let due = false

function personOfAddress() {
  try {
    return decodeURIComponent(location.hash.slice(1)) || null
  } catch {
    return null
  }
}

function follow() {
  opened = personOfAddress()
  byId('who').value = opened ?? ''
  openPerson(opened)
  markOpen(opened)
}

// Many changes at once ask for the counts once.
function countSoon() {
  if (due) return
  due = true
  setTimeout(() => {
    due = false
    refreshStages()
  }, AT_ONCE_MS)
}

function refreshStages() {
  showStages().catch(() => {}) // the connection's state already says that the console does not answer
}

const feed = new Feed(MOST, {
  onReset(changes) {
    resetChanges(changes)
    markOpen(opened)
    refreshStages()
  },
  onChanges(changes) {
    addChanges(changes)
    markOpen(opened)
    countSoon()
    if (changes.some((change) => concerns(change, opened))) refreshPerson()
  },
  onState(state) {
    const shown = byId('connection')
    shown.dataset.state = state
    shown.textContent = state
  },
})

function concerns(change, key) {
  return key !== null && [change.person, change.user_id, change.anonymous_id].includes(key)
}

byId('search').addEventListener('submit', (event) => {
  event.preventDefault()
  const key = byId('who').value.trim()
  if (key === opened) refreshPerson()
  location.hash = key ? personHash(key) : ''
})
addEventListener('hashchange', follow)
setInterval(() => {
  if (document.hidden) return
  refreshStages()
  refreshPerson()
}, EVERY_MS)

follow()
feed.start()
