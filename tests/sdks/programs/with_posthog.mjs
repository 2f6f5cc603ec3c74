import { delivered, key, lost, run, sdk, sent, unsettled, url } from './phases.mjs'

const client = new sdk.PostHog(key, { host: url, flushAt: 4, flushInterval: 0, fetchRetryDelay: 500 })
// An event's own properties stand within `$set` where it is of a person.
const visitOf = ({ properties }) => properties.visit ?? properties.$set.visit

client.on('flush', messages => messages.forEach(one => delivered(visitOf(one))))
// A network error keeps the events for the next flush, any other gives them up.
client.on('error', error => {
  if (error.name !== 'PostHogFetchNetworkError') unsettled().forEach(lost)
})

await run(
  async phase => {
    const [distinctId, identified] = [`visitor-${phase}`, `customer-${phase}`]
    const visit = (name, type) => sent(`${phase}-${name}`, type)
    const page = { $current_url: 'https://shop.example/funds', visit: visit('page', 'page') }
    client.capture({ distinctId, event: '$pageview', properties: page })
    const product = { product_id: 'F-1' }
    client.capture({ distinctId, event: 'product viewed', properties: { ...product, visit: visit('view', 'custom') } })
    const login = { visit: visit('login', 'identify'), $anon_distinct_id: distinctId }
    client.identify({ distinctId: identified, properties: login })
    const invest = { ...product, visit: visit('invest', 'custom') }
    client.capture({ distinctId: identified, event: 'invest', properties: invest })
  },
  () => Promise.resolve(client.flush()).catch(() => {}),
)
