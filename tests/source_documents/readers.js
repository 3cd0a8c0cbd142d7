// The two readers of the device chat guide, as they stand there.

async function sendStreamingMessage(message) {
    const response = await fetch('/chat/stream', {
        method: 'POST',
        headers: {
            'Content-Type': 'application/json',
        },
        body: JSON.stringify({
            content: message,
            media_urls: [],
            audio_urls: []
        })
    });

    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    let buffer = '';

    while (true) {
        const { done, value } = await reader.read();
        if (done) break;

        buffer += decoder.decode(value, { stream: true });

        // Process complete SSE messages
        const lines = buffer.split('\n');
        buffer = lines.pop(); // Keep incomplete line in buffer

        for (const line of lines) {
            if (line.startsWith('data: ')) {
                try {
                    const data = JSON.parse(line.slice(6));
                    if (data.is_final) {
                        console.log('Stream completed');
                    } else {
                        displayMessageChunk(data.content);
                    }
                } catch (e) {
                    console.error('Error parsing SSE data:', e);
                }
            }
        }
    }
}

function displayMessageChunk(chunk) {
    // Append chunk to current message in UI
    const messageElement = document.getElementById('current-message');
    messageElement.textContent += chunk;
}

function sendStreamingMessageWithEventSource(message) {
    // First send the message
    fetch('/chat/stream', {
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify({
            content: message,
            media_urls: [],
            audio_urls: []
        })
    }).then(() => {
        // Then listen for streaming response
        const eventSource = new EventSource('/chat/stream');

        eventSource.onmessage = function(event) {
            const data = JSON.parse(event.data);
            if (data.is_final) {
                eventSource.close();
            } else {
                displayMessageChunk(data.content);
            }
        };

        eventSource.onerror = function(event) {
            console.error('SSE error:', event);
            eventSource.close();
        };
    });
}
