import { delivered, key, lost, run, sdk, sent, url } from './phases.mjs'

const tracker = sdk.newTracker(
  { namespace: 'shop', appId: key, encodeBase64: false },
  {
    endpoint: url,
    bufferSize: 2,
    onRequestSuccess: events => events.forEach(one => delivered(one.eid)),
    onRequestFailure: ({ events, willRetry }) => willRetry || events.forEach(one => lost(one.eid)),
  },
)
const clicked = 'iglu:com.snowplowanalytics.snowplow/link_click/jsonschema/1-0-1'
const viewed = 'iglu:com.example/product_viewed/jsonschema/1-0-0'

await run(
  async phase => {
    tracker.setDomainUserId(`visitor-${phase}`)
    tracker.setUserId(null)
    const said = (event, type) => sent(tracker.track(event).eid, type)
    said(sdk.buildPageView({ pageUrl: 'https://shop.example/funds', pageTitle: 'Funds' }), 'page')
    said(sdk.buildSelfDescribingEvent({ event: { schema: viewed, data: { product_id: 'F-1' } } }), 'custom')
    const link = { targetUrl: 'https://shop.example/funds/F-1' }
    said(sdk.buildSelfDescribingEvent({ event: { schema: clicked, data: link } }), 'click')
    tracker.setUserId(`customer-${phase}`)
    said(sdk.buildStructEvent({ category: 'shop', action: 'invest', property: 'F-1' }), 'custom')
  },
  () => tracker.flush(), // what could not be sent waits for the next event otherwise
)
