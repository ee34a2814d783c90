// SPDX-License-Identifier: Apache-2.0
// Lines `expression TAB zone TAB after...` from the standard input; for each a line with the next time after each of these, in Unix
// seconds, or `never`, and behind slashes the offsets of the zone at `after` and then, as Java knows it; or `unknown zone` or `error: …`.
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.time.ZoneId;
import java.time.zone.ZoneRulesException;
import java.util.Date;
import java.util.TimeZone;
import org.quartz.CronExpression;

public class QuartzDriver {
    private static String answer(String line) {
        String[] words = line.split("\t");
        StringBuilder out = new StringBuilder();
        try {
            CronExpression expression = new CronExpression(words[0]);
            TimeZone zone = TimeZone.getTimeZone(ZoneId.of(words[1]));
            expression.setTimeZone(zone);
            for (int i = 2; i < words.length; i++) {
                Date after = new Date(Long.parseLong(words[i]) * 1000);
                Date next = expression.getNextValidTimeAfter(after);
                out.append(next == null ? "never" : Long.toString(Math.floorDiv(next.getTime(), 1000L)));
                out.append('/').append(zone.getOffset(after.getTime()) / 1000);
                out.append('/').append(zone.getOffset((next == null ? after : next).getTime()) / 1000).append(' ');
            }
        } catch (ZoneRulesException why) {
            return "unknown zone";
        } catch (Exception why) {
            return "error: " + why;
        }
        return out.toString();
    }

    public static void main(String[] arguments) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        StringBuilder out = new StringBuilder();
        for (String line = in.readLine(); line != null; line = in.readLine()) out.append(answer(line)).append('\n');
        System.out.print(out);
    }
}
