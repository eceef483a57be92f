// The other way for Node: fal's hosts, swapped by a middleware. Uploads need the proxy instead.

import { createFalClient } from "@fal-ai/client";

const fal = createFalClient({
  credentials: process.env.KEY,
  requestMiddleware: async (request) => ({
    ...request,
    url: request.url
      .replace("https://queue.fal.run/", `${process.env.URL}/fal/`)
      .replace("https://fal.run/", `${process.env.URL}/fal/run/`),
  }),
});

const { data } = await fal.run("fal-ai/kling-video/v2.1/master/text-to-video", {
  input: { prompt: "a paper boat on a quiet lake" },
});
console.log(data.video.url);
