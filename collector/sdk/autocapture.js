// Collects what people do on a page and delivers it to the collector this file came from: docs/autocapture.md.
// ES2017. collector/sdk serves it without comment lines and indentation, so: no block comments, no template strings.
(() => {
  const EVENTS_PATH = '/v1/events';
  const PREFIX = 'phasewatch.';
  const MEANINGFUL = 'a,button,[type=submit],[type=button],[role=button],label,summary';
  const IGNORED = '[data-pw-ignore],[type=password]';
  const UNREAD = 'textarea,select,script,style,[contenteditable],' + IGNORED;

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
  const getterOf = (owner, what) => {
    const { get } = getOwnPropertyDescriptor(owner.prototype, what);
    return (node) => apply(get, node, []);
  };
  const methodOf = (owner, what) => {
    const work = owner.prototype[what];
    return (node, given) => apply(work, node, [given]);
  };

  // Whatever goes wrong in here, the page must not notice.
  const quietly = (work) => (first, second) => {
    try {
      return work(first, second);
    } catch (error) {}
  };
  const on = (target, types, work) => {
    types.split(' ').forEach((kind) => target.addEventListener(kind, quietly(work), { capture: true, passive: true }));
  };
  const later = (work, delay) => apply(wait, win, [quietly(work), delay]);

  // A storage that may be absent, full or hostile; what it cannot keep stays in memory.
  const storage = (area) => {
    const memory = {};
    return {
      get: (key) => {
        try {
          if (!(key in memory)) return win[area].getItem(PREFIX + key);
        } catch (error) {}
        return memory[key] || null;
      },
      set: (key, value) => {
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

  // JSON.stringify and toJSON belong to the page; this is ours.
  let budget = 0;
  const quote = (text) => {
    let out = '"';
    for (let i = 0; i < min(text.length, STRING_CHARS); i++) {
      const code = text.charCodeAt(i);
      out += code < 32 || code === 34 || code === 92 ? '\\u' + (code + 65536).toString(16).slice(1) : text[i];
    }
    return out + '"';
  };
  const encode = (value) => {
    if (typeof value === 'string') return quote(value);
    if (value === true || value === false || (typeof value === 'number' && isFinite(value))) return '' + value;
    if (!value || typeof value !== 'object' || budget-- < 1) return 'null';
    if (value.toISOString) return quote(value.toISOString());
    if (isArray(value)) return '[' + value.slice(0, NODE_VISITS).map(encode).join(',') + ']';
    const known = keys(value).slice(0, NODE_VISITS).filter((key) => value[key] !== undefined);
    return '{' + known.map((key) => quote(key) + ':' + encode(value[key])).join(',') + '}';
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
    (lines || '').split('\n').filter((line) => line).map((line) => {
      const [, id, anonymous, number, handed, json] = /^(\S+) (\S+) (\S+) (\S+) (.*)$/.exec(line);
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

  // Takes over what pages that are gone could not deliver; what they numbered only before giving numbers oneself.
  const adopt = async (numbered) => {
    const alive = {};
    // The last writes of another process take a moment to be seen here.
    await new Promise((resolve) => later(resolve, 100));
    if (nav.locks) (await nav.locks.query()).held.forEach((lock) => { alive[lock.name] = 1; });
    const found = keys(win.localStorage).filter((key) => {
      if (!key.startsWith(PREFIX + 'q.') || key === PREFIX + queueKey || alive[key]) return false;
      const items = read(win.localStorage[key]);
      if (!numbered && items.some((item) => item.number > 0)) return false;
      queue = items.concat(queue);
      return true;
    });
    if (!found.length) return;
    bound();
    if (save()) found.forEach((key) => win.localStorage.removeItem(key));
    schedule(SOON_MS);
  };

  // One page at a time gives numbers: the one that holds the lock. The other lock says that this page is alive.
  let letGo;
  const live = async () => {
    try {
      const gone = new Promise((resolve) => { letGo = resolve; });
      if (!nav.locks) return await adopt(true);
      nav.locks.request(PREFIX + queueKey, () => gone).catch(() => {});
      adopt(false).catch(() => {});
      await nav.locks.request(PREFIX + 'seq', async () => {
        if (left) return;
        await adopt(true).catch(() => {});
        const { anonymous, number } = identity();
        if (tab.get('id') !== anonymous + ' ' + number) keepIdentity(anonymous, number + NUMBERS_SKIPPED);
        numbering = !left;
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
    const sent = {};
    batch.forEach((item) => { sent[item.id] = 1; });
    queue = queue.filter((item) => !sent[item.id]);
    save();
  };
  const schedule = (delay) => {
    const at = millis() + delay;
    if (timer && timerAt <= at) return;
    win.clearTimeout(timer);
    timerAt = at;
    timer = later(flush, delay);
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
  const flush = async () => {
    timer = 0;
    if (left || blocked || flying.length || !queue.length) return;
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
    const told = answer ? +answer.headers.get('Retry-After') * 1000 || 0 : 0;
    const pause = max(min(told, 20 * LONGEST_PAUSE_MS), min(500 * 2 ** failures++, LONGEST_PAUSE_MS) * (0.5 + random() * 0.5));
    pausedUntil = millis() + pause;
    schedule(pause);
  };

  // On the way out: what no surviving request carries goes by beacon. It has no answer, so it stays in the queue.
  const handOver = () => {
    let rest = ready().filter((item) => !surviving || flying.indexOf(item) < 0);
    flying.forEach((item) => { item.handed = millis(); });
    while (rest.length && !blocked && millis() >= pausedUntil) {
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

  let page;
  let seen;
  const record = (kind, fields, delay) => {
    if (blocked) return;
    const ts = millis();
    const { anonymous } = identity();
    const event = assign({
      id: randomId(), type: kind, ts, anonymous_id: anonymous, user_id: local.get('user') || undefined, session_id: session(ts), page: page,
    }, fields);
    if (dropped) event.properties = assign({ sdk_dropped: dropped }, event.properties);
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
  const measure = () => {
    const time = clock();
    if (visible) dwelt += max(0, min(time, active + IDLE_MS) - measured);
    measured = time;
  };
  const dwell = () => {
    measure();
    const ms = round(dwelt);
    dwelt = 0;
    if (ms) record('dwell', { properties: { ms } }, LATER_MS);
  };
  const act = () => {
    measure();
    active = measured;
  };

  const view = (referrer) => {
    const { location } = win;
    seen = location.href;
    page = { url: seen, path: location.pathname, title: doc.title, referrer };
    record('page', {}, SOON_MS);
  };
  const look = () => {
    if (win.location.href === seen) return;
    dwell();
    view(seen);
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

  const attributeOf = methodOf(Element, 'getAttribute');
  const closest = methodOf(Element, 'closest');
  const rootOf = methodOf(Node, 'getRootNode');
  const tagOf = getterOf(Element, 'localName');
  const previousOf = getterOf(Element, 'previousElementSibling');
  const parentOf = getterOf(Node, 'parentNode');
  const firstOf = getterOf(Node, 'firstChild');
  const nextOf = getterOf(Node, 'nextSibling');
  const kindOf = getterOf(Node, 'nodeType');

  const textOf = (element) => {
    if (tagOf(element) === 'input') return /^(submit|button)$/i.test(attributeOf(element, 'type')) ? attributeOf(element, 'value') : '';
    let visits = NODE_VISITS;
    let words = '';
    const gather = (node) => {
      for (let child = firstOf(node); child && visits-- > 0 && words.length < 2 * STRING_CHARS; child = nextOf(child)) {
        if (kindOf(child) === 3) words += child.data.slice(0, STRING_CHARS);
        else if (kindOf(child) === 1 && !closest(child, UNREAD)) gather(child);
      }
    };
    if (!closest(element, UNREAD)) gather(element);
    return words.replace(/\s+/g, ' ').trim().slice(0, TEXT_CHARS);
  };
  const selectorOf = (element) => {
    let steps = '';
    for (let node = element, depth = 0; node && kindOf(node) === 1 && depth < 5; node = parentOf(node), depth++) {
      const id = attributeOf(node, 'id');
      const classes = (attributeOf(node, 'class') || '').slice(0, SELECTOR_CHARS).trim().split(/\s+/, 3).join('.');
      steps = tagOf(node) + (id ? '#' + id : classes && '.' + classes) + (steps && '>' + steps);
      if (id) break;
    }
    return steps.slice(-SELECTOR_CHARS);
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
  // The element something happened to, also inside a shadow tree; none where the page asks to be left alone.
  const targetOf = (event) => {
    const target = event.composedPath()[0];
    for (let node = target; node; node = rootOf(node).host) if (closest(node, IGNORED)) return null;
    return target;
  };
  const click = (event) => {
    const target = targetOf(event);
    if (!target) return;
    const link = closest(target, 'a[href],area[href]');
    const element = closest(target, MEANINGFUL) || target;
    const there = link ? new URL(attributeOf(link, 'href'), doc.baseURI) : {};
    look();
    record('click', {
      element: assign(describe(element), {
        text: textOf(element), href: /^http/.test(there.protocol) ? there.href : undefined,
      }),
    }, link ? AT_ONCE_MS : SOON_MS);
  };
  const fill = (event) => {
    const target = targetOf(event);
    if (target) record(event.type, { element: describe(target) }, event.type === 'submit' ? AT_ONCE_MS : LATER_MS);
  };

  const start = () => {
    live();
    view(doc.referrer);
    quietly(watch)('pushState');
    quietly(watch)('replaceState');
    on(win, 'popstate hashchange', () => later(look, 0));
    on(win, 'click', click);
    on(win, 'change submit', fill);
    on(win, 'mousemove mousedown keydown scroll touchstart', act);
    on(doc, 'securitypolicyviolation', (event) => {
      if (event.disposition === 'enforce' && endpoint.startsWith(event.blockedURI)) blocked = true;
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
      dwell();
      left = true;
      numbering = false;
      quietly(handOver)();
      letGo();
    });
    // Out of the back-forward cache: meanwhile another page may have taken over what stood in the storage.
    on(win, 'pageshow', (event) => {
      if (!event.persisted) return;
      left = false;
      queue = read(local.get(queueKey));
      measured = active = clock();
      live();
      view(doc.referrer);
    });
    const tick = () => {
      later(tick, TICK_MS);
      look();
      measure();
      if (dwelt >= DWELL_MS || measured > active + IDLE_MS) dwell();
      if (!left) adopt(numbering).catch(() => {});
    };
    later(tick, TICK_MS);
  };

  quietly(() => {
    const script = doc.currentScript || doc.querySelector('script[src][data-key]');
    const key = attributeOf(script, 'data-key');
    if (!key || (win.phasewatch && win.phasewatch.identify)) return;
    endpoint = new URL(attributeOf(script, 'data-events') || EVENTS_PATH, script.src) + '?key=' + encodeURIComponent(key);
    defineProperty(win, 'phasewatch', {
      configurable: true,
      value: {
        identify: quietly((userId) => {
          if (!userId || local.get('user') === '' + userId) return;
          local.set('user', '' + userId);
          record('identify', {}, SOON_MS);
        }),
        reset: quietly(() => {
          local.set('user', null);
          local.set('session', null);
          keepIdentity(randomId(), 0);
        }),
        track: quietly((name, properties) => record('custom', { name: '' + name, properties }, LATER_MS)),
      },
    });
    if (doc.prerendering) on(doc, 'prerenderingchange', start);
    else start();
  })();
})();
