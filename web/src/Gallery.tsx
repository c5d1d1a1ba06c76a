import { type KeyboardEvent } from "react";
import * as api from "./api";

interface Props {
  jobs: api.Job[];
  current: string | undefined;
  onShow: (job: api.Job) => void;
  onDelete: (job: api.Job) => void;
  onCompare: (job: api.Job) => void;
  onChanged: () => void;
}

export function Gallery({ jobs, current, onShow, onDelete, onCompare, onChanged }: Props) {
  if (jobs.length === 0) return null;
  const keys = (event: KeyboardEvent) => {
    const at = jobs.findIndex((job) => job.job_id === current);
    const next = event.key === "ArrowRight" ? at + 1 : event.key === "ArrowLeft" ? at - 1 : -1;
    const job = jobs[next];
    if (!job) return;
    event.preventDefault();
    onShow(job);
    document.getElementById(`open-${job.job_id}`)?.focus();
  };
  return (
    <section className="gallery" aria-label="Pictures">
      <ul onKeyDown={keys}>
        {jobs.map((job) => (
          <li key={job.job_id} className={job.job_id === current ? "current" : ""}>
            <button
              className="plain"
              id={`open-${job.job_id}`}
              aria-current={job.job_id === current}
              onClick={() => onShow(job)}
            >
              <img src={job.image_url ?? ""} alt={job.request.prompt ?? ""} loading="lazy" width={96} height={96} />
            </button>
            <div className="tools">
              <button
                aria-label="Star"
                aria-pressed={job.starred}
                title="Star"
                onClick={() => void api.star(job.job_id, !job.starred).then(onChanged)}
              >
                {job.starred ? "★" : "☆"}
              </button>
              {job.job_id !== current && (
                <button
                  aria-label="Compare with the picture shown"
                  title="Compare with the picture shown"
                  onClick={() => onCompare(job)}
                >
                  ⇄
                </button>
              )}
              <button aria-label="Delete" title="Delete" onClick={() => onDelete(job)}>
                ×
              </button>
            </div>
          </li>
        ))}
      </ul>
    </section>
  );
}
