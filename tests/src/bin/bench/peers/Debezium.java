import com.sun.management.OperatingSystemMXBean;
import io.debezium.engine.ChangeEvent;
import io.debezium.engine.DebeziumEngine;
import io.debezium.engine.format.Json;
import java.lang.management.ManagementFactory;
import java.util.Properties;

/**
 * Debezium's embedded engine on a slot that exists: counts events as JSON, and prints what it saw
 * and the CPU time since the first of them, so that the start of the JVM is not counted.
 *
 * Arguments: port, slot, rows.
 */
public class Debezium {
    private static long rows;
    private static long bytes;
    private static long cpuBefore;

    public static void main(String[] arguments) {
        var expected = Long.parseLong(arguments[2]);
        var system = (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
        var properties = new Properties();
        properties.setProperty("name", "bench");
        properties.setProperty("connector.class", "io.debezium.connector.postgresql.PostgresConnector");
        properties.setProperty("offset.storage", "org.apache.kafka.connect.storage.MemoryOffsetBackingStore");
        properties.setProperty("offset.flush.interval.ms", "10000");
        properties.setProperty("topic.prefix", "bench");
        properties.setProperty("database.hostname", "127.0.0.1");
        properties.setProperty("database.port", arguments[0]);
        properties.setProperty("database.user", "postgres");
        properties.setProperty("database.password", "unused");
        properties.setProperty("database.dbname", "postgres");
        properties.setProperty("database.sslmode", "disable");
        properties.setProperty("plugin.name", "pgoutput");
        properties.setProperty("slot.name", arguments[1]);
        properties.setProperty("publication.name", "bench");
        properties.setProperty("publication.autocreate.mode", "disabled");
        properties.setProperty("snapshot.mode", "no_data");
        properties.setProperty("key.converter.schemas.enable", "false");
        properties.setProperty("value.converter.schemas.enable", "false");

        var engine = DebeziumEngine.create(Json.class)
                .using(properties)
                .using((success, message, error) -> {
                    System.err.println("the engine ended: " + message + " " + error);
                    Runtime.getRuntime().halt(1);
                })
                .notifying((events, committer) -> {
                    for (ChangeEvent<String, String> event : events) {
                        if (rows == 0) {
                            cpuBefore = system.getProcessCpuTime();
                        }
                        rows++;
                        bytes += event.value() == null ? 0 : event.value().length();
                        committer.markProcessed(event);
                    }
                    committer.markBatchFinished();
                    if (rows >= expected) {
                        System.out.printf("{\"rows\": %d, \"bytes\": %d, \"cpu_ns\": %d}%n",
                                rows, bytes, system.getProcessCpuTime() - cpuBefore);
                        System.out.flush();
                        Runtime.getRuntime().halt(0);
                    }
                })
                .build();
        engine.run();
    }
}
