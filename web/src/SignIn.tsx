import { type FormEvent, useState } from "react";
import * as api from "./api";

/** The key is given once for a cookie that scripts cannot read; the page keeps nothing of it. */
export function SignIn({ onDone }: { onDone: () => void }) {
  const [key, setKey] = useState("");
  const [problem, setProblem] = useState("");
  const send = async (event: FormEvent) => {
    event.preventDefault();
    try {
      await api.signIn(key.trim());
      onDone();
    } catch (error) {
      setProblem((error as api.Problem).detail || "This key is not known.");
    }
  };
  return (
    <main className="sign-in">
      <h1>Diptych</h1>
      <form onSubmit={send}>
        <label htmlFor="key">Your key</label>
        <input
          id="key"
          type="password"
          autoComplete="current-password"
          value={key}
          onChange={(event) => setKey(event.target.value)}
        />
        <button className="main" disabled={!key.trim()}>
          Sign in
        </button>
        <p role="alert">{problem}</p>
      </form>
    </main>
  );
}
