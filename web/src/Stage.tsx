import { useState } from "react";

interface Props {
  source: string;
  words: string;
  preview: boolean;
  beside: { source: string; words: string } | null;
}

/** A picture, or two over each other with a handle between them. */
export function Stage({ source, words, preview, beside }: Props) {
  const [at, setAt] = useState(50);
  if (!beside) return <img src={source} alt={words} className={preview ? "preview" : ""} />;
  return (
    <div className="compare">
      <img src={source} alt={words} />
      <img src={beside.source} alt={beside.words} style={{ clipPath: `inset(0 0 0 ${at}%)` }} />
      <span className="edge" style={{ left: `${at}%` }} aria-hidden="true" />
      <input
        type="range"
        min={0}
        max={100}
        value={at}
        aria-label="How much of each is seen"
        onChange={(event) => setAt(Number(event.target.value))}
      />
    </div>
  );
}
