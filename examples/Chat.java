import java.io.PrintStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;

/** Asks a question with the HTTP client of the JDK and prints the reply, a JSON object. */
class Chat {
    public static void main(String[] arguments) throws Exception {
        String address = System.getenv().getOrDefault("GLMSERVE_URL", "http://127.0.0.1:8000");
        String body = """
            {"messages": [{"role": "user", "content": "你好"}], "max_tokens": 60}
            """;
        HttpRequest request = HttpRequest.newBuilder(URI.create(address + "/v1/chat/completions"))
            .header("Content-Type", "application/json")
            .POST(HttpRequest.BodyPublishers.ofString(body, StandardCharsets.UTF_8))
            .build();
        HttpResponse<String> reply = HttpClient.newHttpClient()
            .send(request, HttpResponse.BodyHandlers.ofString(StandardCharsets.UTF_8));
        if (reply.statusCode() != 200) throw new IllegalStateException(reply.body());
        new PrintStream(System.out, true, StandardCharsets.UTF_8).println(reply.body());
    }
}
