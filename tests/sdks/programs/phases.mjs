// What the programs for Node share. A test writes the name of a phase to a program's input; the program then sends the
// events of a visit with its SDK and says on its output, a line of JSON each, what it has sent, what the SDK says was
// delivered and what the SDK says it gave up, and at last that the phase is done.
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'

const [, , url, key, modules, folder] = process.argv
const waiting = new Set()
const MILLISECONDS = 20_000

export { url, key }
export const sdk = createRequire(`${modules}/`)(folder)

const say = line => process.stdout.write(JSON.stringify(line) + '\n')

// A name is the event's id where the program knows it, else what stands as `visit` among the event's properties.
export function sent(name, type) {
  waiting.add(name)
  say({ sent: name, type })
  return name
}

export function delivered(name) {
  waiting.delete(name)
  say({ delivered: name })
}

export function lost(name) {
  waiting.delete(name)
  say({ lost: name })
}

export const unsettled = () => [...waiting]

const pause = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds))

// `visit` sends the events of a phase; `again` is called now and then until the SDK has said what became of them.
export async function run(visit, again = () => {}) {
  for await (const phase of createInterface({ input: process.stdin })) {
    await visit(phase)
    const until = Date.now() + MILLISECONDS
    while (waiting.size > 0 && Date.now() < until) {
      await again()
      await pause(100)
    }
    say({ done: phase })
  }
  process.exit(0)
}
