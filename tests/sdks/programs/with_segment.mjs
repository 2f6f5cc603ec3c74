// @segment/analytics-node, analytics-node before it, and RudderStack's, which is shaped like that.
import { delivered, key, lost, run, sdk, sent, url } from './phases.mjs'

const options = { host: url, flushAt: 4, flushInterval: 500, maxEventsInBatch: 4, errorHandler: () => {} }
const client = sdk.Analytics
  ? new sdk.Analytics({ ...options, writeKey: key })
  : new (sdk.default ?? sdk)(key, { ...options, dataPlaneUrl: url })
client.on?.('error', () => {})

function said(name, type) {
  sent(name, type)
  return error => (error ? lost(name) : delivered(name))
}

await run(async phase => {
  const [anonymousId, userId] = [`visitor-${phase}`, `customer-${phase}`]
  const [page, view, login, invest] = ['page', 'view', 'identify', 'invest'].map(name => `${phase}-${name}`)
  client.page(
    { anonymousId, name: 'Funds', properties: { url: 'https://shop.example/funds', path: '/funds', visit: page } },
    said(page, 'page'),
  )
  client.track(
    { anonymousId, event: 'Product Viewed', properties: { product_id: 'F-1', visit: view } },
    said(view, 'custom'),
  )
  client.identify({ anonymousId, userId, traits: { visit: login } }, said(login, 'identify'))
  client.track({ userId, event: 'Invest', properties: { product_id: 'F-1', visit: invest } }, said(invest, 'custom'))
})
