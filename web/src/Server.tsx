import { useEffect, useState } from "react";
import * as api from "./api";
import { Facts } from "./Facts";
import { seconds } from "./state";

const OFTEN = 4000;

/** What runs and how well, for whoever may see it; the same figures that Prometheus reads. */
export function Server() {
  const [open, setOpen] = useState(false);
  const [figures, setFigures] = useState<api.Figure[]>([]);
  const [admin, setAdmin] = useState(false);
  useEffect(() => {
    void api.session().then((who) => setAdmin(who.role === "admin"), () => undefined);
  }, []);
  useEffect(() => {
    if (!open) return;
    const ask = () => void api.figures().then(setFigures, () => undefined);
    ask();
    const timer = window.setInterval(ask, OFTEN);
    return () => window.clearInterval(timer);
  }, [open]);
  if (!admin) return null;

  const all = (name: string) => figures.filter((one) => one.name === name);
  const sum = (name: string) => all(name).reduce((total, one) => total + one.value, 0);
  const megabytes = (bytes: number) => `${Math.round(bytes / 2 ** 20)} MB`;
  const told = sum("diptych_eta_p80_total");
  const within = all("diptych_eta_p80_total")
    .filter((one) => one.labels["within"] === "yes")
    .reduce((total, one) => total + one.value, 0);
  const rows: [string, string][] = [
    ["Engine", sum("diptych_engine_ready") ? "ready" : "not ready"],
    ["Jobs", all("diptych_jobs").map((one) => `${one.value} ${one.labels["status"]}`).join(", ")],
    ["Waiting", seconds(sum("diptych_queue_seconds"))],
    ["Memory", `${megabytes(sum("process_resident_memory_bytes"))}, engine ${megabytes(sum("diptych_engine_memory_bytes"))}`],
    ["Evaluations a call", sum("diptych_batch_occupancy").toFixed(2)],
    ["From before", String(sum("diptych_cache_hits_total"))],
    ["Within the time told", told ? `${Math.round((100 * within) / told)} % of ${told}` : ""],
    ["Failures", all("diptych_failures_total").map((one) => `${one.value} ${one.labels["code"]}`).join(", ") || "none"],
  ];
  const done = all("diptych_job_seconds_count").map((one) => {
    const { kind = "", model = "", size = "" } = one.labels;
    const same = (name: string) =>
      all(name).find((other) => other.labels["kind"] === kind && other.labels["model"] === model && other.labels["size"] === size)?.value ?? 0;
    return {
      name: [kind, model, size].filter(Boolean).join(" "),
      number: one.value,
      took: same("diptych_job_seconds_sum") / one.value,
      worked: same("diptych_engine_seconds_sum") / one.value,
    };
  });
  return (
    <section aria-label="Server">
      <details className="server" onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>Server</summary>
      <Facts rows={rows} />
      {done.length > 0 && (
        <table>
          <thead>
            <tr>
              <th scope="col">Work</th>
              <th scope="col">Done</th>
              <th scope="col">Took</th>
              <th scope="col">Of the engine</th>
            </tr>
          </thead>
          <tbody>
            {done.map((one) => (
              <tr key={one.name}>
                <th scope="row">{one.name}</th>
                <td>{one.number}</td>
                <td>{seconds(one.took)}</td>
                <td>{seconds(one.worked)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      </details>
    </section>
  );
}
