// A video with fal's own JavaScript client under Node: every call goes to the gateway's proxy.

import { createFalClient } from "@fal-ai/client";

const fal = createFalClient({
  proxyUrl: { url: `${process.env.URL}/fal/proxy`, when: "always" }, // a plain string would be passed over in Node
  credentials: process.env.KEY,
});

const { data, requestId } = await fal.subscribe("fal-ai/kling-video/v2.1/master/text-to-video", {
  input: { prompt: "a paper boat on a quiet lake", duration: "5" },
  logs: true,
  onQueueUpdate: ({ status }) => console.log(status),
});
console.log(requestId, data.video.url);
