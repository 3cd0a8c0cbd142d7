// The token guide's front end without React: a hook that posts with `fetch`, splits the stream at blank lines, and
// takes only blocks that begin with `data: `. It prints what its user would have seen, as JSON.
//
// node token_hook.mjs URL BODY

const [url, body] = process.argv.slice(2);
const seen = { status: 0, turnId: null, sessionId: null, stages: [], tokens: [], endings: [], ignoredBlocks: [] };

function handleEvent(event) {
    switch (event.type) {
        case 'token':
            seen.tokens.push(event.content);
            break;
        case 'done':
        case 'cancelled':
        case 'error':
            seen.endings.push(event.type);
            break;
        default:
            seen.stages.push(`${event.content.stage} ${event.content.status}`);
    }
}

const abort = new AbortController();
const response = await fetch(url, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body,
    signal: abort.signal,
});
seen.status = response.status;
seen.turnId = response.headers.get('X-Streaming-Session-Id');
seen.sessionId = response.headers.get('X-Session-Id');

const decoder = new TextDecoder();
let buffer = '';
for await (const bytes of response.body) {
    buffer += decoder.decode(bytes, { stream: true });
    const blocks = buffer.split('\n\n');
    buffer = blocks.pop();
    for (const block of blocks) {
        if (block.startsWith('data: ')) {
            handleEvent(JSON.parse(block.slice('data: '.length)));
        } else {
            seen.ignoredBlocks.push(block);
        }
    }
}
console.log(JSON.stringify(seen));
