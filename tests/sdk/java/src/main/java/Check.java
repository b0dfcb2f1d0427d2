// The official openai-java package against running servers: Check OPEN KEYED BUSY
// (see ../python/check.py).

import com.openai.client.OpenAIClient;
import com.openai.client.okhttp.OpenAIOkHttpClient;
import com.openai.core.JsonValue;
import com.openai.core.http.StreamResponse;
import com.openai.errors.BadRequestException;
import com.openai.errors.NotFoundException;
import com.openai.errors.OpenAIServiceException;
import com.openai.errors.RateLimitException;
import com.openai.errors.UnauthorizedException;
import com.openai.helpers.ChatCompletionAccumulator;
import com.openai.models.chat.completions.ChatCompletionChunk;
import com.openai.models.chat.completions.ChatCompletionCreateParams;
import com.openai.models.chat.completions.ChatCompletionToolChoiceOption;
import com.openai.models.completions.Completion;
import com.openai.models.completions.CompletionCreateParams;
import com.openai.models.embeddings.EmbeddingCreateParams;
import com.openai.models.responses.ResponseCreateParams;
import com.openai.models.responses.ResponseStreamEvent;

public final class Check {
  static final String QUESTION = "What colour is the sky?";
  static final String ARR = " Arr! The sky be blue, matey!";

  public enum Topic {
    COLOUR,
    ANIMAL
  }

  public static final class Answer {
    public Topic topic;
    public boolean certain;
  }

  public enum Place {
    SKY,
    SEA
  }

  public static final class LookUp {
    public Place of;
  }

  static OpenAIClient client(String url, String key, int retries) {
    return OpenAIOkHttpClient.builder().baseUrl(url).apiKey(key).maxRetries(retries).build();
  }

  static CompletionCreateParams.Builder sky(String model) {
    return CompletionCreateParams.builder().model(model).prompt(QUESTION).maxTokens(32).temperature(0);
  }

  static ChatCompletionCreateParams.Builder ask() {
    return ChatCompletionCreateParams.builder().model("parrot").addUserMessage(QUESTION).maxCompletionTokens(128).temperature(0);
  }

  static void equal(Object got, Object want) {
    if (!want.equals(got)) throw new AssertionError("got " + got + ", want " + want);
  }

  static void fails(Class<? extends OpenAIServiceException> type, String code, Runnable call) {
    try {
      call.run();
    } catch (OpenAIServiceException e) {
      equal(e.getClass(), type);
      equal(e.code().orElse(""), code);
      return;
    }
    throw new AssertionError(type.getSimpleName() + " expected");
  }

  static void completions(OpenAIClient client) {
    equal(client.completions().create(sky("parrot:pirate").build()).choices().get(0).text(), ARR);
    StringBuilder text = new StringBuilder();
    try (StreamResponse<Completion> stream = client.completions().createStreaming(sky("parrot:pirate").build())) {
      stream.stream().forEach(c -> text.append(c.choices().get(0).text()));
    }
    equal(text.toString(), ARR);
    fails(NotFoundException.class, "model_not_found", () -> client.completions().create(sky("nobody").build()));
    fails(BadRequestException.class, "decimal_above_max_value", () -> client.completions().create(sky("parrot").temperature(3).build()));
  }

  static void chat(OpenAIClient client) {
    String content = client.chat().completions().create(ask().build()).choices().get(0).message().content().orElseThrow();
    equal(content.strip(), "The sky is blue.");
    ChatCompletionAccumulator whole = ChatCompletionAccumulator.create();
    try (StreamResponse<ChatCompletionChunk> stream = client.chat().completions().createStreaming(ask().build())) {
      stream.stream().forEach(whole::accumulate);
    }
    equal(whole.chatCompletion().choices().get(0).message().content().orElseThrow(), content);

    Answer answer = client.chat().completions().create(ask().responseFormat(Answer.class).build()).choices().get(0).message().content().orElseThrow();
    if (answer.topic == null) throw new AssertionError("no topic");

    var called = client.chat().completions()
        .create(ask().addTool(LookUp.class).toolChoice(ChatCompletionToolChoiceOption.Auto.REQUIRED).parallelToolCalls(false).build())
        .choices().get(0).message().toolCalls().orElseThrow().get(0).asFunction().function();
    if (called.arguments(LookUp.class).of == null) throw new AssertionError(called.arguments());
  }

  static void responses(OpenAIClient client) {
    var params = ResponseCreateParams.builder().model("parrot").input(QUESTION).maxOutputTokens(32).temperature(0).build();
    var text = new StringBuilder();
    client.responses().create(params).output().forEach(item -> item.message().ifPresent(
        m -> m.content().forEach(part -> text.append(part.asOutputText().text()))));
    var streamed = new StringBuilder();
    try (StreamResponse<ResponseStreamEvent> stream = client.responses().createStreaming(params)) {
      stream.stream().forEach(e -> e.outputTextDelta().ifPresent(d -> streamed.append(d.delta())));
    }
    equal(streamed.toString(), text.toString());
  }

  static void models(OpenAIClient client) {
    equal(client.models().list().data().get(0).id(), "parrot");
    equal(client.models().retrieve("parrot:pirate").id(), "parrot:pirate");
    fails(NotFoundException.class, "model_not_found", () -> client.models().retrieve("some/body:else"));
  }

  static void embeddings(OpenAIClient client) {
    var one = client.embeddings().create(EmbeddingCreateParams.builder().model("parrot").input(QUESTION).build()); // asks for base64
    if (one.data().get(0).embedding().isEmpty()) throw new AssertionError("no embedding");
  }

  static void keys(String url) {
    fails(UnauthorizedException.class, "invalid_api_key", () -> client(url, "sk-wrong", 0).completions().create(sky("parrot").build()));
    client(url, "sk-good", 0).completions().create(sky("parrot").build());
    client(url, "sk-slow", 0).completions().create(sky("parrot").build());
    fails(RateLimitException.class, "rate_limit_exceeded", () -> client(url, "sk-slow", 0).completions().create(sky("parrot").build()));
  }

  static void retriesAndLeaving(String url) {
    OpenAIClient client = client(url, "unused", 2);
    client.completions().create(sky("parrot").build());
    var endless = CompletionCreateParams.builder().model("parrot").prompt(QUESTION).n(8).maxTokens(500)
        .putAdditionalBodyProperty("ignore_eos", JsonValue.from(true)).build();
    try (StreamResponse<Completion> stream = client.completions().createStreaming(endless)) {
      stream.stream().findFirst().orElseThrow();
    }
    client.models().list();
  }

  public static void main(String[] urls) {
    OpenAIClient client = client(urls[0], "unused", 0);
    completions(client);
    chat(client);
    responses(client);
    models(client);
    keys(urls[1]);
    retriesAndLeaving(urls[2]);
    embeddings(client);
    System.out.println("ok");
    System.exit(0); // the client's threads linger
  }
}
