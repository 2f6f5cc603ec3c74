import { delivered, key, lost, run, sdk, sent, url } from './phases.mjs'

const client = new (sdk.default ?? sdk)()
const submitter = client.submitTo({ url: `${url}/sa?project=default&token=${key}` }, { count: 2 })
submitter.catch(() => {})

// The SDK itself tells of its first failure and then nothing more; its queue knows what became of each batch.
const queue = submitter.dataQueue
const consume = queue.consumeData
queue.consumeData = async batch => {
  const names = batch.map(one => one.properties.visit)
  await consume(batch).catch(error => {
    names.forEach(lost)
    throw error
  })
  names.forEach(delivered)
}

await run(async phase => {
  const [anonymous, customer] = [`visitor-${phase}`, `customer-${phase}`]
  const visit = (event, type) => sent(`${phase}-${event}`, type)
  client.track(anonymous, '$pageview', { $url: 'https://shop.example/funds', visit: visit('$pageview', 'page') })
  client.track(anonymous, 'ProductViewed', { product_id: 'F-1', visit: visit('ProductViewed', 'custom') })
  client.trackSignup(customer, anonymous, { visit: visit('$SignUp', 'identify') })
  client.track(customer, 'Invest', { product_id: 'F-1', $is_login_id: true, visit: visit('Invest', 'custom') })
})
