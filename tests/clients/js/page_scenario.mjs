// What the test's page does: the documented example, then everything that it saw, sent to the page's own server.

import { createFalClient } from "@fal-ai/client";
import { makeVideo } from "../../../docs/examples/page.mjs";

const TEXT = "fal-ai/kling-video/v2.1/master/text-to-video";

const once = (target, name) =>
  new Promise((resolve, reject) => {
    target.addEventListener(name, resolve, { once: true });
    target.addEventListener("error", () => reject(new Error(`${name}: ${target.error?.message}`)), { once: true });
  });

async function errorOf(promise) {
  try {
    return { returned: await promise };
  } catch (error) {
    const { name, message, status, body, requestId } = error;
    return { name, message, status, body, requestId };
  }
}

async function play() {
  const { gateway, token } = await (await fetch("/token")).json();
  const canvas = Object.assign(document.createElement("canvas"), { width: 400, height: 400 });
  canvas.getContext("2d").fillRect(100, 100, 200, 200);
  const image = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  const video = document.querySelector("video");
  const loaded = once(video, "canplaythrough");
  const statuses = [];
  const job = await makeVideo({
    gateway,
    token,
    prompt: "a boat",
    image,
    video,
    onStatus: (status) => statuses.push(status),
  });
  await loaded;
  const sought = once(video, "seeked");
  video.currentTime = video.duration - 1;
  await sought;
  const fal = createFalClient({ proxyUrl: `${gateway}/fal/proxy`, credentials: token });
  const stranger = createFalClient({ proxyUrl: `${gateway}/fal/proxy`, credentials: `${token}x` });
  return {
    job,
    statuses,
    readyState: video.readyState,
    duration: video.duration,
    width: video.videoWidth,
    currentTime: video.currentTime,
    invalid: await errorOf(fal.subscribe(TEXT, { input: { prompt: "a boat", duration: "7" } })),
    stranger: await errorOf(stranger.queue.submit(TEXT, { input: { prompt: "a boat" } })),
    anonymous: await errorOf(
      createFalClient({ proxyUrl: `${gateway}/fal/proxy` }).queue.submit(TEXT, { input: { prompt: "a boat" } }),
    ),
  };
}

const seen = await play().catch((error) => ({ failed: `${error.stack}` }));
await fetch("/seen", { method: "POST", body: JSON.stringify(seen) });
