import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import org.apache.kafka.clients.producer.internals.BuiltInPartitioner;

/**
 * Reads keys, one a line in base64, and writes the partition that Kafka's own producer would choose for each.
 * The number of partitions is the only argument.
 */
public final class Partitions {
    private Partitions() {
    }

    public static void main(String[] arguments) throws Exception {
        int partitions = Integer.parseInt(arguments[0]);
        BufferedReader keys = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        StringBuilder answer = new StringBuilder();
        for (String key = keys.readLine(); key != null; key = keys.readLine()) {
            answer.append(BuiltInPartitioner.partitionForKey(Base64.getDecoder().decode(key), partitions)).append('\n');
        }
        System.out.print(answer);
    }
}
