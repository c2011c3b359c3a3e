package setup

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What was done is undone from the end when a step fails, or somebody stops it.
func TestSteps(t *testing.T) {
	var did []string
	broken := errors.New("broken")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	step := func(name string, err, undo error) Step {
		return Step{
			Name: name,
			Plan: func(context.Context) (string, error) { return "make " + name, nil },
			Do:   func(context.Context) error { did = append(did, "do "+name); return err },
			Undo: func(ctx context.Context) error { did = append(did, "undo "+name); return errors.Join(undo, ctx.Err()) },
		}
	}
	nothing := Step{Name: "nothing", Plan: func(context.Context) (string, error) { return "", nil }}
	forEver := step("no undo", nil, nil)
	forEver.Undo = nil
	steps := []Step{step("a", nil, nil), nothing, step("b", nil, broken), forEver, step("c", broken, nil), step("d", nil, nil)}
	list, err := Plan(ctx, steps)
	if err != nil || len(list) != 5 {
		t.Fatalf("Plan = %v, %v", list, err)
	}
	var said []string
	err = Do(ctx, list, func(s string) { said = append(said, s) })
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "undo b") {
		t.Errorf("Do = %v", err)
	}
	if d := cmp.Diff([]string{"do a", "do b", "do no undo", "do c", "undo b", "undo a"}, did); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"done: make a", "done: make b", "done: make no undo", "undone: make a"}, said); d != "" {
		t.Error(d)
	}
	did = nil
	last := step("stop", nil, nil)
	last.Do = func(context.Context) error { stop(); return nil }
	if list, err = Plan(ctx, []Step{step("a", nil, nil), last, step("b", nil, nil)}); err != nil {
		t.Fatal(err)
	}
	if err := Do(ctx, list, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: %v", err)
	}
	if d := cmp.Diff([]string{"do a", "undo stop", "undo a"}, did); d != "" {
		t.Error(d)
	}
	if _, err := Plan(t.Context(), []Step{{Name: "x", Plan: func(context.Context) (string, error) { return "", broken }}}); !errors.Is(err, broken) || !strings.Contains(err.Error(), "x: ") {
		t.Errorf("a plan that fails: %v", err)
	}
}
