// What a program does with @fal-ai/client, once for each way in which it can be brought to another host.
//
// Started by test_javascript_client.py, a process a side. Prints {way: {scenario: what was seen}} as JSON.

import { createFalClient } from "@fal-ai/client";

const OWNER = "fal-ai/kling-video";
const TEXT = `${OWNER}/v2.1/master/text-to-video`;
const IMAGE = `${OWNER}/v2.1/master/image-to-video`;
const NOBODYS = "00000000-0000-0000-0000-000000000000";
const PNG = Buffer.from(
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGNgYGAAAAAEAAH2FzhVAAAAAElFTkSuQmCC",
  "base64",
);
const HELD = "[never-starts] [hang]"; // nothing happens to it until it is moved by hand
const MILLISECONDS = 20_000;
const { TEST_FAL_URL, TEST_HOOK_URL, TEST_QUEUE_URL, TEST_RUN_URL, TEST_REST_URL, TEST_PROXY_URL } = process.env;
const { TEST_KEY, TEST_WRONG_KEY, TEST_POOR_KEY } = process.env;

// The ways: hosts swapped by a middleware, or everything through a proxy.
const WAYS = {
  middleware: {
    requestMiddleware: async (request) => ({
      ...request,
      url: request.url
        .replace("https://queue.fal.run", TEST_QUEUE_URL)
        .replace("https://fal.run", TEST_RUN_URL)
        .replace("https://rest.fal.ai", TEST_REST_URL),
    }),
  },
  ...(TEST_PROXY_URL && { proxy: { proxyUrl: { url: TEST_PROXY_URL, when: "always" } } }),
};

const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

// The job of one scenario as the pretended fal behind all this has it: by it a scenario turns the clock.
class Stage {
  constructor(name) {
    this.name = name;
  }

  prompt(words = "") {
    return `(${this.name}) ${words}`;
  }

  async find() {
    const until = Date.now() + MILLISECONDS;
    while (Date.now() < until) {
      const query = new URLSearchParams({ prompt: `(${this.name})` });
      const { requests } = await (await fetch(`${TEST_FAL_URL}/_sandbox/requests?${query}`)).json();
      if (requests.length) return requests[0];
      await sleep(30);
    }
    throw new Error(`${this.name}: fal never had it`);
  }

  async move(status) {
    const { request_id } = await this.find();
    await fetch(`${TEST_FAL_URL}/_sandbox/requests/${request_id}`, {
      method: "PATCH",
      body: JSON.stringify({ status }),
    });
  }
}

// Moves a held job on when the client has seen where it stands; keeps what it saw, without repeats.
function watcher(stage) {
  const seen = [];
  const note = (update) => {
    const last = seen.at(-1);
    if (last?.status === update.status) seen.pop();
    else if (update.status === "IN_QUEUE") stage.move("IN_PROGRESS");
    if (update.status === "IN_PROGRESS" && new Set(update.logs?.map(({ message }) => message)).size === 6)
      stage.move("COMPLETED");
    seen.push(structuredClone(update));
  };
  return { seen, note };
}

// A stream may repeat lines, and the client puts them together: what each kind of status brought, once.
const inShort = (updates) =>
  updates.map(({ status, logs }) => ({ status, messages: logs && [...new Set(logs.map(({ message }) => message))] }));

async function errorOf(promise) {
  try {
    return { returned: (await promise) ?? null };
  } catch (error) {
    return error;
  }
}

const failing = (words) => async (fal, stage, say) => {
  const { request_id: requestId } = await fal.queue.submit(TEXT, { input: { prompt: stage.prompt(words) } });
  say("completed", await fal.queue.subscribeToStatus(TEXT, { requestId, pollInterval: 50 }));
  say("result", await errorOf(fal.queue.result(TEXT, { requestId })));
};

const invalid = (input) => async (fal, stage) => {
  await fal.subscribe(TEXT, { input: { prompt: stage.prompt(), ...input }, pollInterval: 50 });
};

const SCENARIOS = {
  async subscribe(fal, stage, say) {
    const { seen, note } = watcher(stage);
    const enqueued = [];
    const result = await fal.subscribe(TEXT, {
      input: { prompt: stage.prompt(HELD) },
      logs: true,
      pollInterval: 50,
      onEnqueue: (id) => enqueued.push(id),
      onQueueUpdate: note,
    });
    say("enqueued", enqueued);
    say("updates", seen);
    say("result", result);
  },

  async "subscribe by stream"(fal, stage, say) {
    const { seen, note } = watcher(stage);
    const result = await fal.subscribe(TEXT, {
      input: { prompt: stage.prompt(HELD) },
      logs: true,
      mode: "streaming",
      onQueueUpdate: note,
    });
    say("updates", inShort(seen));
    say("result", result);
  },

  async "subscribe plainly"(fal, stage, say) {
    say("result", await fal.subscribe(TEXT, { input: { prompt: stage.prompt(), duration: "10" } }));
  },

  async "submit, status, result"(fal, stage, say) {
    const submitted = await fal.queue.submit(TEXT, { input: { prompt: stage.prompt(HELD) } });
    const requestId = submitted.request_id;
    say("submitted", submitted);
    await stage.find();
    say("queued", await fal.queue.status(TEXT, { requestId }));
    say("too early", await errorOf(fal.queue.result(TEXT, { requestId })));
    await stage.move("IN_PROGRESS");
    let status;
    do {
      status = await fal.queue.status(TEXT, { requestId });
    } while (status.status !== "IN_PROGRESS");
    say("running", status);
    await stage.move("COMPLETED");
    say("completed", await fal.queue.subscribeToStatus(TEXT, { requestId, pollInterval: 50 }));
    say("result", await fal.queue.result(TEXT, { requestId }));
  },

  async streamStatus(fal, stage, say) {
    const { request_id: requestId } = await fal.queue.submit(TEXT, { input: { prompt: stage.prompt(HELD) } });
    const { seen, note } = watcher(stage);
    const stream = await fal.queue.streamStatus(TEXT, { requestId, logs: true });
    stream.on("data", note);
    say("last", await stream.done());
    say("events", inShort(seen));
  },

  async run(fal, stage, say) {
    say("result", await fal.run(TEXT, { input: { prompt: stage.prompt() } }));
  },

  async "run refused"(fal, stage) {
    await fal.run(TEXT, { input: { prompt: stage.prompt("[refuse]") } });
  },

  async "cancel in the queue"(fal, stage, say) {
    const { request_id: requestId } = await fal.queue.submit(TEXT, { input: { prompt: stage.prompt(HELD) } });
    await stage.find();
    say("canceled", await fal.queue.cancel(TEXT, { requestId }));
    say("completed", await fal.queue.subscribeToStatus(TEXT, { requestId, pollInterval: 50 }));
    say("result", await errorOf(fal.queue.result(TEXT, { requestId })));
    say("canceled again", await errorOf(fal.queue.cancel(TEXT, { requestId })));
  },

  async timeout(fal, stage) {
    await fal.subscribe(TEXT, { input: { prompt: stage.prompt("[quick] [hang]") }, timeout: 500 });
  },

  async startTimeout(fal, stage) {
    await fal.subscribe(TEXT, {
      input: { prompt: stage.prompt("[never-starts]") },
      startTimeout: 2,
      pollInterval: 50,
    });
  },

  async options(fal, stage, say) {
    const { request_id: requestId } = await fal.queue.submit(TEXT, {
      input: { prompt: stage.prompt() },
      hint: "warm",
      priority: "low",
      startTimeout: 30,
      headers: { "X-Fal-No-Retry": "1" },
    });
    await fal.queue.subscribeToStatus(TEXT, { requestId, pollInterval: 50 });
    const headers = Object.entries((await stage.find()).headers).filter(([name]) => name.startsWith("x-fal-"));
    // A start deadline counts from the submit.
    const inShort = (name, value) =>
      name.endsWith("-timeout") && Number(value) > 0 && Number(value) <= 30 ? "up to 30" : value;
    say("reached fal", Object.fromEntries(headers.map(([name, value]) => [name, inShort(name, value)])));
  },

  async webhookUrl(fal, stage, say) {
    const hook = `${TEST_HOOK_URL}/${stage.name.replaceAll(" ", "-")}`;
    await fal.queue.submit(TEXT, { input: { prompt: stage.prompt() }, webhookUrl: hook });
    say("told", await (await fetch(hook)).json());
  },

  refused: failing("[refuse]"),
  "no media": failing("[no-media]"),
  "bad request": failing("[400]"),
  forbidden: failing("[403]"),
  error: failing("[500]"),
  downstream: failing("[downstream]"),
  "no prompt": async (fal) => {
    await fal.subscribe(TEXT, { input: {}, pollInterval: 50 });
  },
  "invalid duration": invalid({ duration: "7" }),
  "invalid share": invalid({ cfg_scale: 2 }),

  async "unknown endpoint"(fal, stage) {
    await fal.queue.submit("fal-ai/no-such-model", { input: { prompt: stage.prompt() } });
  },

  async "unknown id"(fal, stage, say) {
    for (const name of ["status", "result", "cancel"])
      say(name, await errorOf(fal.queue[name](TEXT, { requestId: NOBODYS })));
  },

  async "wrong key"(fal, stage, say, way) {
    const stranger = createFalClient({ ...way, credentials: TEST_WRONG_KEY });
    say("submit", await errorOf(stranger.queue.submit(TEXT, { input: { prompt: stage.prompt() } })));
    say("status", await errorOf(stranger.queue.status(TEXT, { requestId: NOBODYS })));
  },
};

// Files go to fal's storage: the gateway takes them through the proxy alone.
const UPLOADS = {
  async upload(fal, stage, say) {
    const url = await fal.storage.upload(new Blob([PNG], { type: "image/png" }));
    say("is a link", url.startsWith("http"));
    const answer = await fetch(url);
    say("type", answer.headers.get("content-type"));
    say("the same bytes", Buffer.from(await answer.arrayBuffer()).equals(PNG));
  },

  async "blob as input"(fal, stage, say) {
    const image_url = new Blob([PNG], { type: "image/png" });
    say("result", await fal.subscribe(IMAGE, { input: { prompt: stage.prompt(), image_url }, pollInterval: 50 }));
    say("reached fal", typeof (await stage.find()).input.image_url);
  },
};

const OF_THE_GATEWAY = {
  async "no quota"(fal, stage, say, way) {
    const poor = createFalClient({ ...way, credentials: TEST_POOR_KEY });
    say("subscribe", await errorOf(poor.subscribe(TEXT, { input: { prompt: stage.prompt() } })));
    say("run", await errorOf(poor.run(TEXT, { input: { prompt: stage.prompt() } })));
  },
};

// In Node a proxyUrl that is only a string is passed over without a word: the client would call fal itself.
async function calledWithStringProxy() {
  const called = [];
  const fetch = async (url) => {
    called.push(url);
    return Response.json({ request_id: "none" });
  };
  await createFalClient({ proxyUrl: "http://127.0.0.1:9/fal/proxy", credentials: "none", fetch }).queue.submit(TEXT, {
    input: { prompt: "a boat" },
  });
  return called;
}

// JSON of an error: every field that a program can read.
function describe(value) {
  if (!(value instanceof Error)) return value ?? null;
  const { name, message, status, body, requestId, timeoutType, isUserTimeout } = value;
  const fieldErrors = name === "ValidationError" ? value.fieldErrors : undefined;
  return { name, message, status, body, requestId, timeoutType, isUserTimeout, fieldErrors };
}

async function play(scenario, fal, stage, way) {
  const said = {};
  const say = (label, value) => {
    said[label] = describe(value);
  };
  try {
    await Promise.race([
      scenario(fal, stage, say, way),
      sleep(2 * MILLISECONDS).then(() => Promise.reject(new Error("it does not end"))),
    ]);
  } catch (error) {
    said.raised = describe(error);
  }
  return said;
}

async function playAll(name) {
  const way = WAYS[name];
  const fal = createFalClient({ ...way, credentials: TEST_KEY });
  const takesFiles = name === "proxy" || !TEST_PROXY_URL;
  const scenarios = { ...SCENARIOS, ...(takesFiles && UPLOADS), ...(TEST_POOR_KEY && OF_THE_GATEWAY) };
  const played = Object.entries(scenarios).map(async ([title, scenario]) => [
    title,
    await play(scenario, fal, new Stage(`${title} by ${name}`), way),
  ]);
  return [name, Object.fromEntries(await Promise.all(played))];
}

const transcript = Object.fromEntries(await Promise.all(Object.keys(WAYS).map(playAll)));
transcript.calledWithStringProxy = await calledWithStringProxy();
process.stdout.write(JSON.stringify(transcript), () => process.exit());
