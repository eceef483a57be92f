// In a page: a video, made and played with a token that the page's own backend made with POST /v1/tokens.
// Bundle it as any other module: npx esbuild page.mjs --bundle --format=esm --outfile=page.js

import { createFalClient } from "@fal-ai/client";

const ENDPOINT = "fal-ai/kling-video/v2.1/master/image-to-video";

// Uploads the image (a Blob or File), makes the video, and shows it in the <video>; resolves to the job.
export async function makeVideo({ gateway, token, prompt, image, video, onStatus }) {
  const fal = createFalClient({
    proxyUrl: `${gateway}/fal/proxy`,
    credentials: token,
    suppressLocalCredentialsWarning: true, // it is no key: it opens what it was made for, for a while
  });
  const { requestId } = await fal.subscribe(ENDPOINT, {
    input: { prompt, image_url: image },
    onQueueUpdate: ({ status }) => onStatus?.(status),
  });
  const headers = { Authorization: `Bearer ${token}` };
  const job = await (await fetch(`${gateway}/v1/jobs/${requestId}`, { headers })).json();
  video.src = job.content_url; // signed: a <video> can send no header
  return job;
}
