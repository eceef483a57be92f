# fal's protocol by hand: submit, ask until it is COMPLETED, take the result, and save the video.
ENDPOINT=fal-ai/kling-video/v2.1/master/text-to-video
ID=$(curl -sS "$URL/fal/$ENDPOINT" -H "Authorization: Key $KEY" -H "Content-Type: application/json" \
  -d '{"prompt": "a paper boat on a quiet lake"}' | grep -oE 'job_[0-9a-f]{32}' | head -n 1)
until curl -sS "$URL/fal/$ENDPOINT/requests/$ID/status" -H "Authorization: Key $KEY" | grep -q COMPLETED; do
  sleep 1
done
curl -sS "$URL/fal/$ENDPOINT/requests/$ID" -H "Authorization: Key $KEY"
curl -sS "$URL/v1/jobs/$ID/content" -H "Authorization: Key $KEY" -o boat.mp4
