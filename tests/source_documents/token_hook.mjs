// The token guide's front end without React: a hook that posts with `fetch`, splits the stream at blank lines, and
// takes only blocks that begin with `data: `. It collects what its user would have seen. It runs in a browser's page,
// and in Node, where it prints that as JSON:
//
// node token_hook.mjs URL BODY

function handleEvent(seen, event) {
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

async function readWithHook(url, body, seen) {
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

    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    let buffer = '';
    while (true) {
        const { done, value } = await reader.read();
        if (done) break;
        buffer += decoder.decode(value, { stream: true });
        const blocks = buffer.split('\n\n');
        buffer = blocks.pop();
        for (const block of blocks) {
            if (block.startsWith('data: ')) {
                handleEvent(seen, JSON.parse(block.slice('data: '.length)));
            } else {
                seen.ignoredBlocks.push(block);
            }
        }
    }
}

async function seeWithHook(url, body) {
    const seen = {
        status: 0, turnId: null, sessionId: null, stages: [], tokens: [], endings: [], ignoredBlocks: [], error: null,
    };
    try {
        await readWithHook(url, body, seen);
    } catch (error) {
        seen.error = String(error);
    }
    return seen;
}

if (globalThis.process) {
    console.log(JSON.stringify(await seeWithHook(...process.argv.slice(2))));
}
