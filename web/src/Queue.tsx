import { useEffect, useState } from "react";
import * as api from "./api";
import { seconds } from "./state";

interface Props {
  jobs: api.Job[];
  onChanged: () => void;
  onShow: (job: api.Job) => void;
}

/** What is under way and what waits, oldest first; it is the server's, so it survives everything. */
export function Queue({ jobs, onChanged, onShow }: Props) {
  const [paused, setPaused] = useState(false);
  const some = jobs.length > 0;
  useEffect(() => {
    if (some) void api.paused().then(setPaused, () => undefined);
  }, [some]);
  if (!some) return null;
  const order = [...jobs].reverse();
  const waiting = order.filter((job) => job.status === "queued");
  const does = (work: Promise<unknown>) => void work.catch(() => undefined).then(onChanged);
  return (
    <section className="queue" aria-label="Queue">
      <div className="head">
        <h2>Queue</h2>
        <button
          aria-pressed={paused}
          onClick={() => {
            setPaused(!paused);
            does(api.pause(!paused));
          }}
        >
          {paused ? "Go on" : "Pause"}
        </button>
      </div>
      <ol>
        {order.map((job) => {
          const place = waiting.indexOf(job);
          return (
            <li key={job.job_id} className={job.status}>
              <button className="plain name" onClick={() => onShow(job)}>
                {job.request.prompt}
              </button>
              {job.status === "running" ? (
                <progress aria-label={`Step ${job.step} of ${job.steps}`} value={job.step} max={job.steps || 1} />
              ) : (
                <span className="note">{job.held ? "held" : job.eta_seconds === null ? "" : seconds(job.eta_seconds)}</span>
              )}
              {place > 0 && (
                <button aria-label="Sooner" title="Sooner" onClick={() => does(api.move(job.job_id, place - 1))}>
                  ↑
                </button>
              )}
              {job.status === "queued" && (
                <button
                  aria-label={job.held ? "Go on" : "Hold"}
                  title={job.held ? "Go on" : "Hold"}
                  onClick={() => does(api.act(job.job_id, job.held ? "release" : "hold"))}
                >
                  {job.held ? "▸" : "॥"}
                </button>
              )}
              <button aria-label="Cancel" title="Cancel" onClick={() => does(api.act(job.job_id, "cancel"))}>
                ×
              </button>
            </li>
          );
        })}
      </ol>
    </section>
  );
}
