package database_test

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/inetboot/inetboot/server/database"
	"github.com/inetboot/inetboot/server/database/databasetest"
)

var steps = []string{
	"CREATE TABLE trees (name TEXT PRIMARY KEY, age BIGINT NOT NULL, seed BYTEA); CREATE INDEX trees_age ON trees (age)",
	"ALTER TABLE trees ADD COLUMN kind TEXT NOT NULL DEFAULT 'oak?'",
}

// Both databases do the same.
func TestDatabases(t *testing.T) {
	for name, dsn := range map[string]func(*testing.T) string{
		"sqlite":   func(t *testing.T) string { return filepath.Join(t.TempDir(), "a b%20?.db") },
		"postgres": databasetest.Postgres,
	} {
		t.Run(name, func(t *testing.T) { conform(t, dsn(t)) })
	}
}

func conform(t *testing.T, dsn string) {
	ctx := t.Context()
	open := func() *database.DB {
		t.Helper()
		db, err := database.Open(ctx, dsn)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { db.Close() })
		return db
	}
	// Two servers start at once.
	first, second := open(), open()
	var wg sync.WaitGroup
	for _, db := range []*database.DB{first, second, first, second} {
		wg.Go(func() {
			if err := db.Migrate(ctx, "trees", steps[:1]); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	add := func(db *database.DB, name string, age int64) error {
		return db.Update(ctx, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, db.Rebind("INSERT INTO trees (name, age, seed) VALUES (?, ?, ?)"), name, age, []byte{0, 0xff, '\''})
			return err
		})
	}
	for i := range 40 {
		wg.Go(func() {
			if err := add([]*database.DB{first, second}[i%2], string(rune('a'+i%26))+strings.Repeat("x", i), int64(i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := first.Migrate(ctx, "trees", steps); err != nil {
		t.Fatal(err)
	}
	var n, total int64
	var seed []byte
	row := second.QueryRowContext(ctx, second.Rebind("SELECT count(*), sum(age), (SELECT seed FROM trees LIMIT 1) FROM trees WHERE kind = 'oak?' AND age >= ?"), 0)
	if err := row.Scan(&n, &total, &seed); err != nil || n != 40 || total != 780 || string(seed) != "\x00\xff'" {
		t.Errorf("%d rows, sum %d, seed %q, %v; want 40, 780", n, total, seed, err)
	}
	// What fails leaves nothing behind.
	if err := first.Migrate(ctx, "trees", append(steps, "ALTER TABLE trees ADD COLUMN x TEXT", "nonsense")); err == nil {
		t.Error("a step that is no SQL was taken")
	}
	if err := first.Migrate(ctx, "trees", append(steps, "ALTER TABLE trees ADD COLUMN x TEXT")); err != nil {
		t.Errorf("after a failed migration: %v", err)
	}
	if err := first.Migrate(ctx, "trees", steps); !errors.Is(err, database.ErrNewer) {
		t.Errorf("an older program = %v; want ErrNewer", err)
	}
	if err := add(first, "twice", 1); err != nil {
		t.Error(err)
	}
	if err := add(second, "twice", 1); err == nil {
		t.Error("the same key was taken twice")
	}
}

func TestFileIsPrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "server.db")
	db, err := database.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Migrate(t.Context(), "trees", steps); err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(path + "*")
	if err != nil || len(found) < 2 {
		t.Errorf("files %q, %v; want the database and its log", found, err)
	}
	for _, f := range found {
		if info, err := os.Stat(f); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v; want it for its owner only", f, info, err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	notes := filepath.Join(t.TempDir(), "notes")
	if err := os.WriteFile(notes, []byte(strings.Repeat("no database ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dsn := range []string{"", filepath.Join(t.TempDir(), "no", "such"), notes, "postgres://u:secret@127.0.0.1:1/x", "postgres://u:secret@%zz"} {
		db, err := database.Open(t.Context(), dsn)
		if err == nil {
			db.Close()
			t.Errorf("Open(%q) succeeded", dsn)
			continue
		}
		if strings.Contains(err.Error(), "secret") {
			t.Errorf("Open(%q) tells the password: %v", dsn, err)
		}
	}
}
