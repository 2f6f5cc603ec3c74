// Collects what people do on a page and delivers it to the collector this file came from: docs/autocapture.md.
// ES2017. collector/sdk serves it without comment lines and indentation, so: no block comments, no template strings.
(() => {
  const EVENTS_PATH = '/v1/events';
  const PREFIX = 'phasewatch.';
  const MEANINGFUL = 'a,button,[type=submit],[type=button],[role=button],label,summary';
  const IGNORED = '[data-pw-ignore],[type=password]';
  const UNREAD = 'textarea,select,script,style,[contenteditable],' + IGNORED;
  const LINK = 'a[href],area[href]';
  const DOWNLOADED = /\.(pdf|ofd|docx?|xlsx?|pptx?|wps|csv|txt|rtf|epub|zip|rar|7z|gz|tar|dmg|exe|msi|pkg|apk|ipa|mp[34]|mov|avi|wav)$/i;
  const MASK = '***';

  const AT_ONCE_MS = 0;
  const SOON_MS = 250;
  const LATER_MS = 2000;
  const HANDED_OVER_MS = 2000;
  const TIMEOUT_MS = 30000;
  const LONGEST_PAUSE_MS = 30000;
  const SESSION_MS = 1800000;
  const IDLE_MS = 30000;
  const TICK_MS = 5000;
  const DWELL_MS = 25000;

  const FLUSH_EVENTS = 10;
  const BATCH_EVENTS = 32;
  // A keepalive request may have 64 KiB, and a character up to 3 bytes.
  const BATCH_CHARS = 15000;
  const QUEUE_EVENTS = 1000;
  const QUEUE_CHARS = 500000;
  const STRING_CHARS = 2000;
  const TEXT_CHARS = 100;
  const SELECTOR_CHARS = 200;
  const NODE_VISITS = 200;
  // Browsers' parsers stop at 512 elements within each other.
  const DEEPEST = 1000;
  const RAGE_CLICKS = 3;
  const RAGE_MS = 1000;
  const RAGE_PX = 30;
  // A number given by another tab may not have reached this one's view of the storage yet.
  const NUMBERS_SKIPPED = 1000;

  // Natives are taken now: a page may replace them later, and a form's fields hide its own properties.
  const win = window;
  const doc = document;
  const nav = navigator;
  const { apply } = Reflect;
  const { assign, defineProperty, getOwnPropertyDescriptor, keys } = Object;
  const { isArray } = Array;
  const { abs, min, max, random, round } = Math;
  const millis = Date.now;
  const wait = win.setTimeout;
  // Whatever goes wrong in here, the page must not notice.
  const quietly = (work) => (first, second) => {
    try {
      return work(first, second);
    } catch (error) {}
  };
  // What an old browser lacks (shadow trees) is undefined: views and dwell time do without.
  const getterOf = quietly((owner, what) => {
    const { get } = getOwnPropertyDescriptor(owner.prototype, what);
    return (node) => apply(get, node, []);
  });
  const methodOf = quietly((owner, what) => {
    const work = owner.prototype[what];
    return (node, given) => apply(work, node, [given]);
  });
  const on = (target, types, work) => {
    types.split(' ').forEach((type) => target.addEventListener(type, quietly(work), { capture: true, passive: true }));
  };
  const later = (work, delay) => apply(wait, win, [quietly(work), delay]);

  // No event, nothing stored, nothing sent: there is no consent, or the browser asks not to be tracked.
  let silent = true;

  // A storage that may be absent, full or hostile; what it cannot keep stays in memory.
  const storage = (area) => {
    const memory = {};
    return {
      clear: () => {
        keys(memory).forEach((key) => { if (key !== 'consent') delete memory[key]; });
        keys(win[area]).forEach((key) => {
          if (key.startsWith(PREFIX) && key !== PREFIX + 'consent') win[area].removeItem(key);
        });
      },
      get: (key) => {
        try {
          if (!(key in memory)) return win[area].getItem(PREFIX + key);
        } catch (error) {}
        return memory[key] || null;
      },
      set: (key, value) => {
        if (silent) return false;
        try {
          if (value === null) win[area].removeItem(PREFIX + key);
          else win[area].setItem(PREFIX + key, value);
          if (win[area].getItem(PREFIX + key) === value) {
            delete memory[key];
            return true;
          }
        } catch (error) {}
        memory[key] = value;
        return false;
      },
    };
  };
  const local = storage('localStorage');
  const tab = storage('sessionStorage');

  const randomId = () => {
    const bytes = new Uint8Array(16).map(() => random() * 256);
    quietly(() => win.crypto.getRandomValues(bytes))();
    return bytes.reduce((hex, byte) => hex + (byte + 256).toString(16).slice(1), '');
  };

  // The anonymous id and its last number are one value, so that they can only be lost together.
  const keepIdentity = (anonymous, number) => {
    tab.set('id', anonymous + ' ' + number);
    return local.set('id', anonymous + ' ' + number);
  };
  const identity = () => {
    if (!local.get('id')) keepIdentity(randomId(), 0);
    const [anonymous, number] = local.get('id').split(' ');
    return { anonymous, number: +number };
  };
  const session = (time) => {
    const [last, at] = (local.get('session') || ' 0').split(' ');
    const id = time - at < SESSION_MS ? last : randomId();
    local.set('session', id + ' ' + time);
    return id;
  };

  // Masks, as collector/masking.py makes them: there are the sources. No look-behind: browsers of 2022 refuse the whole file for it.
  const SECRET_WORDS = /token|password|passwd|pwd|passphrase|secret|signature|credential|session|apikey|accesskey|privatekey|authoriz|oauth|captcha|verif|idcard|cardno|bankcard|mobile|phone|email|jwt/;
  const SECRET_NAMES = /^(key|code|auth|authcode|authkey|smscode|vcode|sid|ssid|phpsessid|sign|sig|otp|pin|pass|ticket|cvv|cvc|hmac)$/;
  // In addresses more is secret than in properties, where a code is a fund's; a thing's number or a sum passes as a card's by chance.
  const SECRET_PROPERTIES = /passwo?r?d|passphrase|(access|refresh|auth|id|session|csrf|device|push)token|secretkey|clientsecret|(api|access|private)key|verif(ication|y)code|smscode|captcha|phpsessid|^(pwds?|secrets?|token|jwt|otp|cvv|cvc|vcode|authcode|credentials?|authorization|idnumber|(idcard|identity|bankcard|card)(card|no|number)?)$/;
  const ABOUT_SECRETS = /(type|count|length|strength|score|status|state|name|expire[sd]?|expiry|ttl|at|time|date|valid|visible|required|enabled|error|result|hint|version)$/;
  const IDENTIFIERS = /^(category|currency|isin|sku|code)$|(order|product|fund|trade|transaction|redemption|payment|item|goods|sku|coupon|contract|stock|security|portfolio|plan).*(ids?|nos?|num|numbers?|codes?|sn|serial)$|(amount|price|total|count|quantity|balance|assets|shares|volume|ms|seconds|time|ts|stamp|date|duration|fee|money)$/;
  const FUND_PAGE = /fund|jijin|product|detail|stock|quote|bond|etf|market/i;
  const LOGIN = /log_?-?in|sign_?-?(in|up)|regist|auth|verif|reset|passw|pwd|sms|phone|mobile|captcha|token|callback|state=|grant_type|redirect_uri/i;
  // Visa, Mastercard (but no order's number of date and time), American Express, Diners, JCB, Discover, UnionPay, Maestro, older debit cards.
  const CARDS = /^(?!2\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])([01]\d|2[0-3])[0-5]\d[0-5]\d)(4(\d{12}|\d{15}|\d{18})|(5[1-5]|2[2-7])\d{14}|3[47]\d{13}|3[0689]\d{12,17}|(35|60|6[45])\d{14,17}|(62|81)\d{14,17}|(50|58|63|67)\d{11,17}|955[589]\d{12,15})$/;
  const ID_NUMBERS = /^(1[1-5]|2[1-3]|3[1-7]|4[1-6]|5[0-4]|6[1-5]|71|8[1-3])\d{4}(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])\d{3}[\dx]$/i;
  const EMAIL = /[^\s@/?&=:;,<>"\x27()*]{1,64}@[\w\u00aa-\u1fff\u2c00-\u2fef\u3040-\ufdff-]{1,63}(\.[\w\u00aa-\u1fff\u2c00-\u2fef\u3040-\ufdff-]{1,63})*\.[a-z\u00aa-\u1fff\u2c00-\u2fef\u3040-\ufdff]{2,63}/gi;
  const CARD_OR_ID = /(^|[^0-9])([0-9]{17}x(?!\w)|[0-9](?:[ +-]?[0-9]){12,18}(?![0-9]))/gi;
  const PHONE = /(^|[^0-9.])(?:(?:\+|00)?86[ +-]?)?1[3-9][0-9](?:[ +-]?[0-9]{4}){2}(?![0-9])|(^|[^\w+])\+[1-9](?:[ ().-]{0,2}[0-9]){7,14}(?![0-9])/g;
  const PAIR = /([\w.[\]%-]{1,64}=)([^&#;\s"\x27<>]+)/g;
  const NESTED = 3;
  const decoded = (text) => {
    let plain = text;
    for (let i = 0; i < NESTED; i++) {
      plain = plain.replace(/(%[0-9a-f]{2})+/gi, (run) => {
        try {
          return decodeURIComponent(run);
        } catch (error) {
          return run.replace(/%(..)/g, (byte, hex) => String.fromCharCode(hex < '8' ? '0x' + hex : '0xfffd'));
        }
      });
    }
    return plain;
  };
  const isIdNumber = (digits) => {
    let sum = 0;
    for (let i = 0; i < 17; i++) sum += digits[i] * (2 ** (17 - i) % 11);
    return ID_NUMBERS.test(digits) && '10X98765432'[sum % 11] === digits[17].toUpperCase();
  };
  const isCard = (digits) => {
    let sum = 0;
    for (let i = 0; i < digits.length; i++) {
      const digit = digits[digits.length - 1 - i] * (i % 2 + 1);
      sum += digit > 9 ? digit - 9 : digit;
    }
    return CARDS.test(digits) && sum % 10 === 0;
  };
  const maskNumbers = (text) => (/[0-9@]/.test(text) ? text.replace(EMAIL, MASK).replace(CARD_OR_ID, (found, before, number) => {
    const digits = number.replace(/[ +-]/g, '');
    return isIdNumber(digits) || isCard(digits) ? before + MASK : found;
  }).replace(PHONE, '$1$2' + MASK) : text);
  const isSecret = (name) => {
    const plain = decoded(name).toLowerCase().replace(/[^a-z0-9\u0080-\uffff]/g, '');
    return SECRET_WORDS.test(plain) || SECRET_NAMES.test(plain);
  };
  const plainOf = (name) => name.toLowerCase().replace(/[^a-z0-9]/g, '');
  const isSecretProperty = (name) => SECRET_PROPERTIES.test(plainOf(name)) && !ABOUT_SECRETS.test(plainOf(name));
  const maskPairsIn = (text) => text.replace(PAIR, (pair, name) => (isSecretProperty(name) ? name + MASK : pair));
  const maskPair = (pair, nested, fund) => {
    const name = pair.slice(0, pair.indexOf('=') + 1);
    const value = pair.slice(name.length);
    const plain = decoded(value);
    if (!value || value === MASK) return pair;
    if (fund && /^code=\d{6}$/.test(pair)) return pair;
    if (isSecret(name)) return name + MASK;
    if (plain.indexOf('=') < 0) return maskNumbers(plain) === plain ? pair : name + MASK;
    if (!nested) return name + MASK;
    const masked = maskNumbers(/[?#]/.test(plain) ? maskAddress(plain, nested - 1) : maskPairs(plain, nested - 1));
    return masked === plain ? pair : name + (quietly(encodeURIComponent)(masked) || MASK).replace(/%(2F|3A|3F)/g, decodeURIComponent);
  };
  const maskPairs = (query, nested, fund) => {
    const between = /^[^&]*;[^&]*$/.test(query) ? ';' : '&';
    return query.split(between).map((pair) => maskPair(pair, nested, fund)).join(between);
  };
  const maskPath = (path) => {
    const segments = path.replace(/\/\/(?!\*\*\*@[^@/]*(\/|$))[^/\s]*@/g, '//' + MASK + '@').split('/');
    return segments.map((segment) => {
      const [first] = segment.split(';');
      const plain = decoded(first);
      const rest = segment.slice(first.length + 1);
      return (maskNumbers(plain) === plain ? first : MASK) + (segment === first ? '' : ';' + maskPairs(rest, 0));
    }).join('/');
  };
  const maskAddress = (address, nested) => {
    const [, path, query, route, values] = /^([^?#]*)(\?[^#]*)?(#[^?]*)?([^]*)/.exec(address);
    const fund = FUND_PAGE.test(address) && !LOGIN.test(address);
    const pairs = (text) => maskPairs(text.slice(1), nested, fund);
    const inRoute = (text) => (/=/.test(text) ? pairs(text) : maskPath(text.slice(1)));
    return maskPath(path) + (query ? '?' + pairs(query) : '') + (route ? '#' + inRoute(route) : '') + (values ? '?' + pairs(values) : '');
  };
  const maskUrl = (address) => (address ? maskAddress(address, NESTED) : address);
  const maskText = (text) => {
    const cut = text.slice(0, 2 * STRING_CHARS);
    return maskNumbers(/^\/|:\/\//.test(cut) ? maskUrl(cut) : maskPairsIn(cut));
  };

  // JSON.stringify and toJSON belong to the page; this is ours. What is not the script's own is masked.
  let budget = 0;
  const quote = (text) => {
    let out = '"';
    for (let i = 0; i < min(text.length, STRING_CHARS); i++) {
      const code = text.charCodeAt(i);
      out += code < 32 || code === 34 || code === 92 ? '\\u' + (code + 65536).toString(16).slice(1) : text[i];
    }
    return out + '"';
  };
  const encode = (value, foreign) => {
    const type = typeof value;
    if (type === 'string') return quote(foreign ? maskText(value) : value);
    if (type === 'number' && isFinite(value)) return foreign && maskNumbers('' + value) !== '' + value ? quote(MASK) : '' + value;
    if (value === true || value === false) return '' + value;
    if (!value || type !== 'object' || budget-- < 1) return 'null';
    if (value.toISOString) return encode(quietly(() => value.toISOString())(), foreign);
    if (isArray(value)) return '[' + value.slice(0, NODE_VISITS).map((one) => encode(one, foreign)).join(',') + ']';
    const known = keys(value).slice(0, NODE_VISITS).filter((key) => value[key] !== undefined);
    return '{' + known.map((key) => {
      const one = value[key];
      const bare = typeof one === 'number' || (typeof one === 'string' && /^[\w-]*$/.test(one));
      const secret = foreign && typeof one !== 'boolean' && isSecretProperty(key);
      const kept = bare && IDENTIFIERS.test(plainOf(key));
      return quote(foreign ? maskText(key) : key) + ':' + (secret ? quote(MASK) : encode(one, (foreign && !kept) || key === 'properties'));
    }).join(',') + '}';
  };

  // The queue. Each page writes its own key of the storage, so that no tab overwrites another's events.
  const queueKey = 'q.' + randomId();
  let queue = [];
  let dropped = 0;
  const save = () => {
    const lines = queue.map((item) => [item.id, item.anonymous, item.number, item.handed, item.json].join(' '));
    return local.set(queueKey, lines.join('\n') || null);
  };
  const read = (lines) =>
    (lines || '').split('\n').map((line) => /^(\S+) (\S+) (\S+) (\S+) ([^]*)$/.exec(line)).filter((found) => found).map((found) => {
      const [, id, anonymous, number, handed, json] = found;
      return { id, anonymous, number: +number, handed: +handed, json };
    });
  const bound = () => {
    let chars = queue.reduce((sum, item) => sum + item.json.length, 0);
    while (queue.length > QUEUE_EVENTS || chars > QUEUE_CHARS) {
      chars -= queue.shift().json.length;
      dropped++;
    }
  };

  // An item's number: above 0 its seq, 0 not sent yet, -1 sent without one.
  // A number is given only while all earlier ones are acknowledged: the receiver remembers few gaps below the highest.
  let numbering = false;
  const giveNumbers = (batch) => {
    const free = numbering && !queue.some((item) => item.number > 0);
    batch.forEach((item) => {
      if (item.number) return;
      const { anonymous, number } = identity();
      const given = free && anonymous === item.anonymous && keepIdentity(anonymous, number + 1);
      item.number = given ? number + 1 : -1;
    });
  };

  const without = (items, others) => {
    const ids = {};
    others.forEach((item) => { ids[item.id] = 1; });
    return items.filter((item) => !ids[item.id]);
  };

  // Takes over what pages that are gone could not deliver; what they numbered only before giving numbers oneself.
  const adopt = async (numbered) => {
    const alive = {};
    // The last writes of another process take a moment to be seen here.
    await new Promise((resolve) => later(resolve, 100));
    if (nav.locks) (await nav.locks.query()).held.forEach((lock) => { alive[lock.name] = 1; });
    if (silent) return;
    const found = keys(win.localStorage).filter((key) => {
      if (!key.startsWith(PREFIX + 'q.') || key === PREFIX + queueKey || alive[key]) return false;
      const items = read(win.localStorage[key]);
      if (!numbered && items.some((item) => item.number > 0)) return false;
      // Without locks it may be the queue of a page that is alive, which goes on keeping and sending it.
      queue = without(items, queue).concat(queue);
      return true;
    });
    if (!found.length) return;
    bound();
    if (save()) found.forEach((key) => win.localStorage.removeItem(key));
    schedule(SOON_MS);
  };

  // One page at a time gives numbers: the one that holds the lock. The other lock says that this page is alive.
  let letGo = () => {};
  const live = async () => {
    try {
      let here = true;
      const gone = new Promise((resolve) => {
        letGo = () => {
          here = false;
          numbering = false;
          resolve();
        };
      });
      if (!nav.locks) return await adopt(true);
      nav.locks.request(PREFIX + queueKey, () => gone).catch(() => {});
      adopt(false).catch(() => {});
      await nav.locks.request(PREFIX + 'seq', async () => {
        if (!here) return;
        await adopt(true).catch(() => {});
        if (!here) return;
        const { anonymous, number } = identity();
        if (tab.get('id') !== anonymous + ' ' + number) keepIdentity(anonymous, number + NUMBERS_SKIPPED);
        numbering = true;
        await gone;
      });
    } catch (error) {}
  };

  // Delivery: one request at a time, oldest first.
  let endpoint;
  let timer = 0;
  let timerAt = 0;
  let flying = [];
  let surviving = false;
  let failures = 0;
  let pausedUntil = 0;
  let told = 0;
  let left = false;
  let blocked = false;
  const cut = (items) => {
    let chars = 0;
    return items.slice(0, BATCH_EVENTS).filter((item, i) => (chars += item.json.length) < BATCH_CHARS || !i);
  };
  const bodyOf = (batch) => {
    const events = batch.map(({ json, number }) => (number > 0 ? json.slice(0, -1) + ',"seq":' + number + '}' : json));
    return '{"sent_at":' + millis() + ',"events":[' + events.join(',') + ']}';
  };
  const ready = () => queue.filter((item) => abs(millis() - item.handed) > HANDED_OVER_MS);
  const forget = (batch) => {
    queue = without(queue, batch);
    save();
  };
  const schedule = (delay) => {
    const at = millis() + delay;
    if (timer && timerAt <= at) return;
    win.clearTimeout(timer);
    timerAt = at;
    timer = later(() => flush().catch(() => {}), delay);
  };
  const beacon = (batch) => nav.sendBeacon(endpoint, bodyOf(batch));
  const send = async (batch) => {
    try {
      return await Promise.race([
        win.fetch(endpoint, {
          method: 'POST', body: bodyOf(batch), keepalive: surviving, credentials: 'omit',
        }),
        new Promise((resolve) => later(resolve, TIMEOUT_MS)),
      ]);
    } catch (error) {}
  };
  const offline = () => nav.onLine === false;
  const flush = async () => {
    timer = 0;
    if (left || blocked || silent || offline() || flying.length || !queue.length) return;
    if (millis() < pausedUntil) return schedule(pausedUntil - millis());
    const waiting = ready();
    const numbered = waiting.filter((item) => item.number > 0);
    const batch = cut(numbered.length ? numbered : waiting);
    if (!batch.length) return schedule(HANDED_OVER_MS);
    if (!win.fetch) return beacon(batch) && forget(batch);
    giveNumbers(batch);
    flying = batch;
    // After a failure without: it may have been the browser's own limit on such requests.
    surviving = !failures;
    save();
    const answer = await send(batch);
    const status = answer ? answer.status : 0;
    flying = [];
    if ((status >= 200 && status < 300) || (status >= 400 && status < 500 && status !== 408 && status !== 429)) {
      failures = 0;
      forget(batch);
      return schedule(queue.length >= FLUSH_EVENTS ? AT_ONCE_MS : SOON_MS);
    }
    told = answer ? +answer.headers.get('Retry-After') * 1000 || 0 : 0;
    const pause = max(min(told, 20 * LONGEST_PAUSE_MS), min(500 * 2 ** failures++, LONGEST_PAUSE_MS) * (0.5 + random() * 0.5));
    pausedUntil = millis() + pause;
    schedule(pause);
  };

  // On the way out: what no surviving request carries goes by beacon. It has no answer, so it stays in the queue.
  const handOver = () => {
    let rest = ready().filter((item) => !surviving || flying.indexOf(item) < 0);
    flying.forEach((item) => { item.handed = millis(); });
    while (rest.length && !blocked && !offline() && millis() >= pausedUntil) {
      const batch = cut(rest);
      if (!beacon(batch)) break;
      batch.forEach((item) => {
        item.handed = millis();
        item.number = item.number || -1;
      });
      rest = rest.slice(batch.length);
    }
    save();
  };

  // The path of the frame that a window is; none for a tab's own.
  const frameOf = (inside) => (inside.parent === inside ? undefined : maskUrl(inside.location.pathname));

  let page;
  let seen;
  const record = (type, fields, delay) => {
    if (blocked || silent) return;
    const ts = millis();
    const { anonymous } = identity();
    const properties = assign({ frame: frameOf(win), sdk_dropped: dropped || undefined }, fields.properties);
    const event = assign({
      id: randomId(), type, ts, anonymous_id: anonymous, user_id: local.get('user') || undefined, session_id: session(ts), page: page,
    }, fields, { properties: keys(properties).some((key) => properties[key] !== undefined) ? properties : undefined });
    budget = NODE_VISITS;
    let text = encode(event);
    if (text.length > BATCH_CHARS) {
      event.properties = { sdk_too_large: text.length };
      text = encode(event);
    }
    dropped = 0;
    queue.push({ id: event.id, anonymous, number: 0, handed: 0, json: text });
    bound();
    save();
    schedule(queue.length >= FLUSH_EVENTS ? AT_ONCE_MS : delay);
  };

  // Dwell: time in which the page was visible and its person active.
  const clock = () => win.performance.now();
  let visible = doc.visibilityState !== 'hidden';
  let active = clock();
  let measured = active;
  let dwelt = 0;
  let marks;
  const measure = () => {
    const time = clock();
    if (visible) dwelt += max(0, min(time, active + IDLE_MS) - measured);
    measured = time;
  };
  const dwell = () => {
    measure();
    const ms = round(dwelt);
    dwelt = 0;
    if (ms) record('dwell', { properties: assign({ ms }, marks) }, LATER_MS);
  };
  const act = () => {
    measure();
    active = measured;
  };

  const attributeOf = methodOf(Element, 'getAttribute');
  const matches = methodOf(Element, 'matches');
  const rootOf = methodOf(Node, 'getRootNode');
  const assignedOf = methodOf(win.HTMLSlotElement, 'assignedNodes');
  const tagOf = getterOf(Element, 'localName');
  const shadowOf = getterOf(Element, 'shadowRoot');
  const slotOf = getterOf(Element, 'assignedSlot');
  const previousOf = getterOf(Element, 'previousElementSibling');
  const parentOf = getterOf(Node, 'parentNode');
  const firstOf = getterOf(Node, 'firstChild');
  const nextOf = getterOf(Node, 'nextSibling');
  const kindOf = getterOf(Node, 'nodeType');
  const ownerOf = getterOf(Node, 'ownerDocument');
  const baseOf = getterOf(Node, 'baseURI');
  const viewOf = getterOf(Document, 'defaultView');
  const contentOf = getterOf(HTMLIFrameElement, 'contentDocument');
  const find = (path, what) => path.find((node) => matches(node, what));

  // The nearest element says it; else the page does, on its body, its root or a meta.
  const markOf = (path, name) => {
    const whole = [doc.body, doc.documentElement, doc.head && doc.head.querySelector('meta[' + name + ']')];
    const marked = path.concat(whole).find((node) => node && attributeOf(node, name) !== null);
    return (marked && attributeOf(marked, name)) || undefined;
  };
  const marksOf = (path) => ({
    product_id: markOf(path, 'data-pw-product-id'), category: markOf(path, 'data-pw-category'),
  });

  const open = (referrer) => {
    const { href, pathname } = win.location;
    marks = marksOf([]);
    page = { url: maskUrl(href), path: maskUrl(pathname), title: maskText(doc.title), referrer: maskUrl(referrer) };
  };
  const view = (referrer) => {
    seen = win.location.href;
    open(referrer);
    record('page', { properties: marks }, SOON_MS);
  };
  const look = () => {
    if (win.location.href === seen) return;
    if (seen) dwell();
    view(seen || doc.referrer);
  };
  const watch = (what) => {
    const original = win.history[what];
    defineProperty(win.history, what, {
      configurable: true,
      writable: true,
      value: function (...given) {
        const result = apply(original, this, given);
        later(look, 0);
        return result;
      },
    });
  };

  const textOf = (element) => {
    if (tagOf(element) === 'input') return /^(submit|button)$/i.test(attributeOf(element, 'type')) ? maskText(attributeOf(element, 'value') || '') : '';
    let visits = NODE_VISITS;
    let words = '';
    const take = (node) => {
      if (visits-- < 1 || words.length >= 2 * STRING_CHARS) return;
      if (kindOf(node) === 3) words += node.data.slice(0, STRING_CHARS);
      else if (kindOf(node) === 1 && !matches(node, UNREAD)) gather(node);
    };
    const gather = (node) => {
      const given = tagOf(node) === 'slot' ? assignedOf(node) : [];
      given.forEach(take);
      if (given.length) return;
      for (let child = firstOf(shadowOf(node) || node); child && visits > 0; child = nextOf(child)) take(child);
    };
    gather(element);
    return maskText(words.replace(/\s+/g, ' ').trim()).slice(0, TEXT_CHARS);
  };
  const selectorOf = (element) => {
    let steps = '';
    let between = '';
    for (let node = element, depth = 0; node && depth < 5; depth++) {
      const id = attributeOf(node, 'id');
      const classes = (attributeOf(node, 'class') || '').slice(0, SELECTOR_CHARS).trim().split(/\s+/, 3).join('.');
      steps = tagOf(node) + (id ? '#' + id : classes && '.' + classes) + between + steps;
      // An id says it all, within its own tree.
      const above = id ? rootOf(node) : parentOf(node);
      between = above && kindOf(above) === 1 ? '>' : '>>>';
      node = above && (kindOf(above) === 1 ? above : kindOf(above) === 11 && above.host);
    }
    return maskText(steps).slice(-SELECTOR_CHARS);
  };
  const placeOf = (element) => {
    let place = 0;
    let visits = NODE_VISITS;
    for (let node = previousOf(element); node; node = previousOf(node)) {
      if (visits-- < 1) return undefined;
      if (tagOf(node) === tagOf(element)) place++;
    }
    return place;
  };
  const describe = (element) => ({ tag: tagOf(element), selector: selectorOf(element), index: placeOf(element) });

  // The element something happened to and all around it, across the borders of shadow trees and of this origin's frames;
  // nothing where the page asks to be left alone.
  const outward = (node) => {
    if (kindOf(node) === 11) return node.host;
    if (kindOf(node) === 9) return viewOf(node) && viewOf(node).frameElement;
    return slotOf(node) || parentOf(node);
  };
  const pathOf = (event) => {
    const path = [];
    let node = silent ? null : event.composedPath()[0];
    for (; node && path.length < DEEPEST; node = outward(node)) if (kindOf(node) === 1) path.push(node);
    return node || find(path, IGNORED) ? [] : path;
  };
  const propertiesOf = (path) => assign({ frame: frameOf(viewOf(ownerOf(path[0])) || win) }, marksOf(path));

  let clicks = [];
  const rageOf = (event) => {
    // A script's or the keyboard's click happens nowhere.
    if (!event.detail) return undefined;
    const { screenX, screenY, timeStamp } = event;
    const time = clock();
    // A label's click is one of its field as well, of the same moment.
    clicks = clicks.filter((one) => one.timeStamp !== timeStamp && time - one.time < RAGE_MS &&
      abs(one.screenX - screenX) < RAGE_PX && abs(one.screenY - screenY) < RAGE_PX);
    clicks = clicks.slice(-NODE_VISITS).concat({ time, screenX, screenY, timeStamp });
    return clicks.length < RAGE_CLICKS ? undefined : clicks.length;
  };
  const linkOf = (path) => {
    const link = find(path, LINK);
    const there = (link && quietly(() => new URL(attributeOf(link, 'href'), baseOf(link)))()) || {};
    const near = /^http/.test(there.protocol);
    const file = near ? there.pathname.split('/').pop() : '';
    const named = link ? attributeOf(link, 'download') : null;
    return {
      link,
      href: near ? maskUrl(there.href) : undefined,
      download: named !== null || DOWNLOADED.test(file) ? decoded(named || file).slice(0, TEXT_CHARS) : undefined,
      outbound: near && there.host !== win.location.host ? there.host : undefined,
    };
  };
  const click = (event) => {
    const path = pathOf(event);
    if (!path.length) return;
    const { link, href, download, outbound } = linkOf(path);
    const element = find(path, MEANINGFUL) || path[0];
    look();
    record('click', {
      element: assign(describe(element), { text: find(path.slice(path.indexOf(element)), UNREAD) ? '' : textOf(element), href }),
      properties: assign(propertiesOf(path), { download, outbound, rage: rageOf(event) }),
    }, link ? AT_ONCE_MS : SOON_MS);
  };
  // One event is heard twice where a component lets it out of its shadow tree.
  let heard;
  const fill = (event) => {
    const path = event === heard ? [] : pathOf(event);
    heard = event;
    if (!path.length) return;
    look();
    const delay = event.type === 'submit' ? AT_ONCE_MS : LATER_MS;
    record(event.type, { element: describe(path[0]), properties: propertiesOf(path) }, delay);
  };

  // A change does not leave its shadow tree, but what comes before it does: focus, a key, the mouse.
  const reached = new WeakSet();
  const reach = (event) => {
    event.composedPath().forEach((node) => {
      if (quietly(kindOf)(node) !== 11 || reached.has(node)) return;
      reached.add(node);
      on(node, 'change submit', fill);
    });
  };
  const api = {};
  const installed = (inside) => inside.phasewatch && inside.phasewatch.identify;
  const listen = (target) => {
    on(target, 'click', click);
    on(target, 'change submit', fill);
    on(target, 'mousemove mousedown keydown scroll touchstart', act);
    on(target, 'focusin input mousedown keydown', reach);
  };
  // What the page's script comes upon: no frame in a shadow tree, no <frame>, no <object>.
  const isFound = (frame) => tagOf(frame) === 'iframe' && rootOf(frame) === ownerOf(frame);
  // A frame of this origin is part of the page, unless the script was in it before it was here.
  const enter = (frame) => {
    const inner = contentOf(frame);
    const inside = inner && viewOf(inner);
    if (!inside || reached.has(inner) || (installed(inside) && inside.phasewatch !== api)) return;
    reached.add(inner);
    listen(inner);
    enterAll(inner);
  };
  const enterAll = (root) => {
    on(root, 'load', (event) => enter(event.target));
    root.querySelectorAll('iframe').forEach(quietly(enter));
  };

  // Now, or again: out of the back-forward cache, where another page may have taken over what stood in the storage; after a consent.
  const go = () => {
    left = false;
    queue = read(local.get(queueKey));
    visible = doc.visibilityState !== 'hidden';
    dwelt = 0;
    measured = active = clock();
    live();
  };
  const hush = () => {
    win.clearTimeout(timer);
    timer = 0;
    queue = [];
    letGo();
    quietly(local.clear)();
    quietly(tab.clear)();
  };
  let started = false;
  const start = () => {
    go();
    // Of a page that is still being read, title, body and metas are not known: its view waits for them, or for its end.
    if (doc.readyState === 'loading') open(doc.referrer);
    else view(doc.referrer);
    if (started) return;
    started = true;
    on(doc, 'DOMContentLoaded', look);
    quietly(watch)('pushState');
    quietly(watch)('replaceState');
    on(win, 'popstate hashchange', () => later(look, 0));
    listen(win);
    enterAll(doc);
    on(win, 'online', () => {
      failures = 0;
      if (!told) pausedUntil = 0;
      schedule(AT_ONCE_MS);
    });
    on(doc, 'securitypolicyviolation', (event) => {
      if (event.effectiveDirective === 'connect-src' && event.disposition === 'enforce' && endpoint.startsWith(event.blockedURI)) blocked = true;
    });
    on(doc, 'visibilitychange', () => {
      const shown = doc.visibilityState !== 'hidden';
      if (shown) measure();
      else dwell();
      visible = shown;
      if (shown) act();
      else flush().catch(() => {});
    });
    on(win, 'pagehide', () => {
      look();
      dwell();
      left = true;
      quietly(handOver)();
      letGo();
    });
    on(win, 'pageshow', (event) => {
      if (!event.persisted) return;
      const was = silent;
      obey();
      if (was || silent) return;
      go();
      view(doc.referrer);
    });
    const tick = () => {
      later(tick, TICK_MS);
      look();
      measure();
      if (dwelt >= DWELL_MS || measured > active + IDLE_MS) dwell();
      if (!left && !silent && nav.locks) adopt(numbering).catch(() => {});
    };
    later(tick, TICK_MS);
  };

  // Who may not be told of, of whom nothing stays.
  let refused = false;
  let required = false;
  const obey = () => {
    const was = silent;
    const decision = local.get('consent');
    silent = refused || decision === 'no' || (required && decision !== 'yes');
    if (silent) hush();
    else if (!doc.prerendering && (was || !started)) start();
  };

  quietly(() => {
    const script = doc.currentScript || doc.querySelector('script[src][data-key]');
    const key = attributeOf(script, 'data-key');
    if (!key || installed(win)) return;
    const outer = win.parent !== win && quietly(() => installed(win.parent) && isFound(win.frameElement) && win.parent.phasewatch)();
    defineProperty(win, 'phasewatch', { configurable: true, value: outer || api });
    if (outer) return;
    endpoint = new URL(attributeOf(script, 'data-events') || EVENTS_PATH, script.src) + '?key=' + encodeURIComponent(key);
    const respected = attributeOf(script, 'data-respect') || '';
    refused = (/gpc/i.test(respected) && !!nav.globalPrivacyControl) || (/dnt/i.test(respected) && nav.doNotTrack === '1');
    required = attributeOf(script, 'data-consent') === 'required';
    assign(api, {
      identify: quietly((userId) => {
        if (silent || !userId || local.get('user') === '' + userId) return;
        local.set('user', '' + userId);
        record('identify', {}, SOON_MS);
      }),
      reset: quietly(() => {
        local.set('user', null);
        local.set('session', null);
        if (!silent) keepIdentity(randomId(), 0);
      }),
      track: quietly((name, properties) => record('custom', { name: maskText('' + name), properties }, LATER_MS)),
      consent: quietly((given) => {
        if (refused) return;
        const was = silent;
        silent = false;
        local.set('consent', given ? 'yes' : 'no');
        silent = was;
        obey();
      }),
    });
    on(win, 'storage', (event) => {
      if (!event.key || event.key === PREFIX + 'consent') obey();
    });
    if (doc.prerendering) on(doc, 'prerenderingchange', obey);
    obey();
  })();
})();
