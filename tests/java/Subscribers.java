import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;

/**
 * Two members of one consumer group read topics from their begin to what is their end at the start. Nobody takes a
 * record before both have partitions. One line of JSON a record; keys, values and headers in base64.
 * Arguments: brokers, group, topics.
 */
public final class Subscribers {
    private static final int MEMBERS = 2;
    private static final Duration PATIENCE = Duration.ofSeconds(60);
    private static final Base64.Encoder BASE64 = Base64.getEncoder();

    private final Properties settings = new Properties();
    private final List<String> topics;
    private final Map<TopicPartition, Long> left = new ConcurrentHashMap<>();
    private final Map<Integer, CountDownLatch> assigned = new ConcurrentHashMap<>();

    private Subscribers(String brokers, String group, List<String> topics) {
        this.topics = topics;
        settings.put("bootstrap.servers", brokers);
        settings.put("group.id", group);
        settings.put("auto.offset.reset", "earliest");
        settings.put("isolation.level", "read_committed");
        String bytes = "org.apache.kafka.common.serialization.ByteArrayDeserializer";
        settings.put("key.deserializer", bytes);
        settings.put("value.deserializer", bytes);
        for (int member = 0; member < MEMBERS; member++) {
            assigned.put(member, new CountDownLatch(1));
        }
    }

    public static void main(String[] arguments) throws Exception {
        List<String> topics = Arrays.asList(arguments).subList(2, arguments.length);
        Subscribers subscribers = new Subscribers(arguments[0], arguments[1], topics);
        subscribers.findEnds();
        ExecutorService pool = Executors.newFixedThreadPool(MEMBERS);
        try {
            List<Future<?>> reading = new ArrayList<>();
            for (int member = 0; member < MEMBERS; member++) {
                int number = member;
                reading.add(pool.submit(() -> subscribers.read(number)));
            }
            for (Future<?> one : reading) {
                one.get();
            }
        } finally {
            pool.shutdownNow();
        }
    }

    private void findEnds() {
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(settings)) {
            List<TopicPartition> places = new ArrayList<>();
            topics.forEach(topic -> consumer.partitionsFor(topic)
                .forEach(one -> places.add(new TopicPartition(one.topic(), one.partition()))));
            Map<TopicPartition, Long> begins = consumer.beginningOffsets(places);
            consumer.endOffsets(places).forEach((place, end) -> {
                if (end > begins.get(place)) {
                    left.put(place, end);
                }
            });
        }
    }

    private void read(int member) {
        long deadline = System.nanoTime() + PATIENCE.toNanos();
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(settings)) {
            consumer.subscribe(topics, new ConsumerRebalanceListener() {
                @Override
                public void onPartitionsAssigned(Collection<TopicPartition> places) {
                    if (!places.isEmpty()) {
                        assigned.get(member).countDown();
                    }
                    if (!everybodyIsThere()) {
                        consumer.pause(places);
                    }
                }

                @Override
                public void onPartitionsRevoked(Collection<TopicPartition> places) {
                    // What was read is committed by then: auto commit does it before a rebalance.
                }
            });
            while (!left.isEmpty()) {
                if (System.nanoTime() > deadline) {
                    throw new IllegalStateException("not read within " + PATIENCE + ": " + left);
                }
                if (everybodyIsThere()) {
                    consumer.resume(consumer.paused());
                }
                consumer.poll(Duration.ofMillis(100)).forEach(record -> print(member, record));
                consumer.assignment().forEach(place ->
                    left.computeIfPresent(place, (same, end) -> consumer.position(place) < end ? end : null));
            }
        }
    }

    private boolean everybodyIsThere() {
        return assigned.values().stream().allMatch(one -> one.getCount() == 0);
    }

    private static void print(int member, ConsumerRecord<byte[], byte[]> record) {
        StringBuilder headers = new StringBuilder();
        for (Header header : record.headers()) {
            headers.append(headers.length() == 0 ? "" : ", ").append('"').append(header.key())
                .append("\": ").append(quoted(header.value()));
        }
        System.out.println("{\"member\": " + member + ", \"topic\": \"" + record.topic() + "\", \"partition\": "
            + record.partition() + ", \"offset\": " + record.offset() + ", \"key\": " + quoted(record.key())
            + ", \"value\": " + quoted(record.value()) + ", \"headers\": {" + headers + "}}");
    }

    private static String quoted(byte[] bytes) {
        return bytes == null ? "null" : '"' + BASE64.encodeToString(bytes) + '"';
    }
}
