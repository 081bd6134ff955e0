import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

/** Java's own client as most programs use it: it offers HTTP/2 with each request to an http:// address. */
class Http2Client {
    public static void main(String[] arguments) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        String chat = "{\"messages\": [{\"role\": \"user\", \"content\": \"你好\"}]}";
        String old = "{\"prompt\": \"你好\", \"history\": []}";
        ask(client, arguments[0], "/v1/chat/completions", HttpRequest.BodyPublishers.ofString(chat));
        ask(client, arguments[0], "/chatglm", HttpRequest.BodyPublishers.ofString(old));
        byte[] bytes = old.getBytes("UTF-8"); // of unknown length, and so in chunks
        ask(client, arguments[0], "/chatglm", HttpRequest.BodyPublishers.ofInputStream(
            () -> new java.io.ByteArrayInputStream(bytes)));
        ask(client, arguments[0], "/health", null);
    }

    private static void ask(HttpClient client, String url, String path, HttpRequest.BodyPublisher body)
            throws Exception {
        HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(url + path));
        if (body != null) request.header("Content-Type", "application/json").POST(body);
        HttpResponse<String> reply = client.send(request.build(), HttpResponse.BodyHandlers.ofString());
        System.out.println(reply.statusCode() + " " + path);
        if (reply.statusCode() != 200) System.err.println(reply.body());
    }
}
