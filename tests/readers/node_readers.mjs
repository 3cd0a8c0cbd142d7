// Readers of event streams in JavaScript, written as clients write them. Some are npm packages; the others are the
// loops of the older documents.
//
// node node_readers.mjs NODE_MODULES < JOBS
//
// A line of the input is a list of jobs, and a line of the output the list of their answers. A job names a reader and
// either streams and the ways in which they are fed to it, or a request. Each feed is the number of its stream, the
// places where a piece ends, and the place where the stream ends. An answer has `shown`, the lists of events that the
// reader showed, each list once, and `which`: for each feed, the number of its list.

import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { Readable } from 'node:stream';
import { pathToFileURL } from 'node:url';

const require = createRequire(`${process.argv[2]}/`);
const load = (name) => import(pathToFileURL(require.resolve(name)).href);

const { createParser } = await load('eventsource-parser');
const { EventSourceParserStream } = await load('eventsource-parser/stream');
const { EventSource } = await load('eventsource');
const { fetchEventSource } = require('@microsoft/fetch-event-source');

// What this package takes from a browser.
globalThis.window = globalThis;
globalThis.document = { addEventListener() {}, removeEventListener() {} };

const ADDRESS = 'http://zoo.example/';
const STREAM = { headers: { 'content-type': 'text/event-stream; charset=utf-8' } };

const event = (name, data, id = '') => ({ event: name || 'message', data, id });

// Packages

async function* eventSourceParser({ open }) {
    const response = await open();
    const messages = response.body.pipeThrough(new TextDecoderStream()).pipeThrough(new EventSourceParserStream());
    let lastId = '';
    for await (const message of messages) {
        lastId = message.id ?? lastId;
        yield event(message.event, message.data, lastId);
    }
}

async function* eventSourceParserCallback({ open }) {
    const seen = [];
    let lastId = '';
    const parser = createParser({
        onEvent(message) {
            lastId = message.id ?? lastId;
            seen.push(event(message.event, message.data, lastId));
        },
    });
    const decoder = new TextDecoder();
    const reader = (await open()).body.getReader();
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
        parser.feed(decoder.decode(part.value, { stream: true }));
    }
    yield* seen;
}

/** The package `eventsource`, with a listener for each name. It comes back by itself until it is told 204. */
function listen({ open, comesBack }, names) {
    return new Promise((resolve) => {
        const seen = [];
        const source = new EventSource(ADDRESS, { fetch: (_, init) => open(init) });
        for (const name of new Set([...names, 'error'])) {
            source.addEventListener(name, (message) => {
                if (typeof message.data === 'string') {
                    if (names.includes(name)) seen.push(event(name, message.data, message.lastEventId));
                } else if (!comesBack || source.readyState === EventSource.CLOSED) {
                    source.close();
                    resolve(seen);
                }
            });
        }
    });
}

async function* eventSource(job) {
    yield* await listen(job, job.names);
}

/** The device guide's second reader. */
async function* onMessage(job) {
    yield* await listen(job, ['message']);
}

/** As `docs/streams.md` shows it: the package's own headers may have the id of an event that did not come whole. */
async function* fetchEventSourceReader({ open, comesBack }) {
    const seen = [];
    const headers = { Accept: 'text/event-stream' };
    await fetchEventSource(ADDRESS, {
        fetch: (_, init) => open({ ...init, headers }),
        openWhenHidden: true,
        onmessage(message) {
            if (message.id) headers['Last-Event-ID'] = message.id;
            seen.push(event(message.event, message.data, headers['Last-Event-ID']));
        },
        onerror(error) {
            if (!comesBack) throw error;
        },
    });
    yield* seen;
}

// The loops of the documents

/** The token guide's hook: splits at blank lines, and takes blocks that begin with `data: ` and hold JSON. */
async function* dataBlocks({ open }) {
    const decoder = new TextDecoder();
    let buffer = '';
    for await (const bytes of (await open()).body) {
        buffer += decoder.decode(bytes, { stream: true });
        const blocks = buffer.split('\n\n');
        buffer = blocks.pop();
        for (const block of blocks) {
            if (block.startsWith('data: ') && isJson(block.slice(6))) yield event('message', block.slice(6));
        }
    }
}

/** The device guide's first reader: lines, of which an incomplete one waits in a buffer. */
async function* splitLines({ open }) {
    const reader = (await open()).body.getReader();
    const decoder = new TextDecoder();
    let buffer = '';
    while (true) {
        const { done, value } = await reader.read();
        if (done) break;
        buffer += decoder.decode(value, { stream: true });
        const lines = buffer.split('\n');
        buffer = lines.pop(); // Keep incomplete line in buffer
        for (const line of lines) {
            if (line.startsWith('data: ')) yield event('message', line.slice(6));
        }
    }
}

/** The token guide's advice against buffering, taken by the word: what a piece does not hold whole is lost. */
async function* linesOfEachPiece({ open }) {
    const reader = (await open()).body.getReader();
    const decoder = new TextDecoder();
    while (true) {
        const { done, value } = await reader.read();
        if (done) break;
        for (const line of decoder.decode(value).split('\n')) {
            if (line.startsWith('data: ') && isJson(line.slice(6))) yield event('message', line.slice(6));
        }
    }
}

function isJson(text) {
    try {
        JSON.parse(text);
        return true;
    } catch {
        return false; // console.error('Error parsing SSE data:', e)
    }
}

/** Node's own splitter of lines. */
async function* readline({ open }) {
    const lines = createInterface({ input: Readable.fromWeb((await open()).body), crlfDelay: Infinity });
    let name = 'message';
    for await (const line of lines) {
        if (line.startsWith('event: ')) {
            name = line.slice(7);
        } else if (line.startsWith('data: ')) {
            yield event(name, line.slice(6));
            name = 'message';
        }
    }
}

const READERS = {
    'eventsource-parser': eventSourceParserCallback,
    'eventsource-parser/stream': eventSourceParser,
    eventsource: eventSource,
    onmessage: onMessage,
    'fetch-event-source': fetchEventSourceReader,
    'data blocks (JavaScript)': dataBlocks,
    'split lines (JavaScript)': splitLines,
    'lines of each piece': linesOfEachPiece,
    readline,
};

// Jobs

/** An answer whose body comes in pieces: one ends at each cut, the last one at the end. */
function feed(raw, [cuts, end]) {
    const borders = [0, ...cuts, end];
    const body = new ReadableStream({
        start(controller) {
            borders.slice(1).forEach((border, place) => {
                if (border > borders[place]) controller.enqueue(raw.subarray(borders[place], border));
            });
            controller.close();
        },
    });
    return new Response(body, STREAM);
}

function post({ url, headers, body }, init = {}) {
    const all = { 'Content-Type': 'application/json', ...init.headers, ...headers };
    return fetch(url, { ...init, method: 'POST', headers: all, body: JSON.stringify(body) });
}

async function collect(job, open) {
    const seen = [];
    for await (const found of READERS[job.reader]({ ...job, open })) seen.push(found);
    return seen;
}

async function run(job) {
    // Thousands of feeds are shown as a few different lists.
    const shown = new Map();
    const which = [];
    const add = (events) => {
        const written = JSON.stringify(events);
        if (!shown.has(written)) shown.set(written, shown.size);
        which.push(shown.get(written));
    };
    if (job.url) {
        add(await collect(job, (init) => post(job, init)));
    } else {
        const streams = job.streams.map((stream) => Buffer.from(stream, 'base64'));
        for (const [stream, ...way] of job.feeds) {
            add(await collect(job, async () => feed(streams[stream], way)));
        }
    }
    return { shown: [...shown.keys()].map((written) => JSON.parse(written)), which };
}

// A timer of `eventsource` does not keep Node from its end.
setInterval(() => {}, 1000);
for await (const line of createInterface({ input: process.stdin, crlfDelay: Infinity })) {
    const answers = await Promise.all(JSON.parse(line).map(run));
    process.stdout.write(`${JSON.stringify(answers)}\n`);
}
process.exit();
