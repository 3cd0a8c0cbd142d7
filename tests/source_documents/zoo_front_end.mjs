// The chat page of the zoo's front end, without its page: it makes the session's id itself, sends what it knows of the
// user, has an empty login while nobody is logged in, and keeps no cookies. It prints what its services returned.
//
// node zoo_front_end.mjs URL

const [url] = process.argv.slice(2);
const token = '';
const sessionId = `session_${Date.now()}_${Math.random().toString(36).slice(2, 11)}`;

async function request(path, options = {}) {
    const response = await fetch(`${url}${path}`, {
        ...options,
        headers: {
            'Content-Type': 'application/json',
            Authorization: `Bearer ${token}`,
            ...options.headers,
        },
    });
    const text = await response.text();
    return { status: response.status, body: text && text.startsWith('{') ? JSON.parse(text) : text };
}

function sendMessage(message, contextSummary = null) {
    return request('/convo_turn', {
        method: 'POST',
        body: JSON.stringify({
            sessionId,
            animalId: 'lion_001',
            message,
            userId: 'anonymous',
            contextSummary,
            metadata: { source: 'web', timestamp: new Date().toISOString(), userAgent: null },
        }),
    });
}

function streamMessage(message) {
    return request('/convo_turn_stream', {
        method: 'POST',
        headers: { Accept: 'text/event-stream' },
        body: JSON.stringify({ sessionId, animalId: 'lion_001', message, userId: null, stream: true }),
    });
}

const query = new URLSearchParams({ sessionId });
const seen = {
    sessionId,
    first: await sendMessage('My name is Mia.'),
    second: await sendMessage('What is my name?', 'The visitor said hello.'),
    stream: await streamMessage('How fast can you run?'),
    history: await request(`/convo_history?${query}`),
    session: await request(`/conversations/sessions/${sessionId}`),
    summary: await request('/summarize_convo', { method: 'POST', body: JSON.stringify({ sessionId, userId: null }) }),
    animals: await request('/animal_list'),
    deleted: await request(`/convo_history?${query}`, { method: 'DELETE' }),
    afterwards: await request(`/convo_history?${query}`),
};
console.log(JSON.stringify(seen));
