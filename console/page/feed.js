// Changes as the server publishes them: what there was, then a stream that resumes where it broke off.

const AGAIN_MS = 2000

export class Feed {
  constructor(most, { onChanges, onReset, onState }) {
    this.most = most
    this.tell = { onChanges, onReset, onState }
    this.cursor = null
    this.source = null
    this.timer = 0
    this.waiting = []
    document.addEventListener('visibilitychange', () => this.follow())
    addEventListener('pagehide', () => this.stop())
    addEventListener('pageshow', (event) => event.persisted && this.follow())
  }

  async start() {
    clearTimeout(this.timer)
    try {
      const answer = await fetch(`/api/changes?newest=true&limit=${this.most}`)
      if (answer.status === 401) return location.assign('/login') // the session is over
      if (!answer.ok) throw new Error(answer.statusText)
      const { changes, next } = await answer.json()
      this.cursor = next
      this.tell.onReset(changes)
      this.follow()
    } catch {
      this.again()
    }
  }

  // A browser has few connections to a server, so only a tab that is looked at holds one.
  follow() {
    if (document.hidden) this.stop()
    else if (this.cursor !== null && this.source === null) this.connect()
  }

  connect() {
    const source = new EventSource(`/api/changes/stream?after=${encodeURIComponent(this.cursor)}`)
    this.source = source
    source.onopen = () => this.tell.onState('live')
    source.addEventListener('change', (event) => this.take(event))
    source.onerror = () => {
      this.tell.onState('reconnecting')
      if (source.readyState !== EventSource.CLOSED) return // it connects again by itself, with its last event id
      this.stop()
      this.again()
    }
  }

  stop() {
    this.source?.close()
    this.source = null
  }

  // The server has refused: it is full, stopping, or has another log by now. Begin again from what it has.
  again() {
    this.tell.onState('reconnecting')
    clearTimeout(this.timer)
    this.timer = setTimeout(() => this.start(), AGAIN_MS)
  }

  // A burst is shown at once rather than row by row; only the last of it would stay anyway.
  take(event) {
    this.cursor = event.lastEventId
    this.waiting.push(JSON.parse(event.data))
    if (this.waiting.length > 1) {
      this.waiting = this.waiting.slice(-this.most)
      return
    }
    setTimeout(() => {
      const changes = this.waiting
      this.waiting = []
      this.tell.onChanges(changes)
    }, 30)
  }
}
