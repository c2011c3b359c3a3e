package setup

import (
	"context"
	"errors"
	"fmt"
)

// Step is a part of setting a machine up.
type Step struct {
	Name string
	// Plan says what Do would do, "" if all is as it should be. It changes nothing.
	Plan func(ctx context.Context) (string, error)
	// Do leaves nothing behind if it fails.
	Do func(ctx context.Context) error
	// Undo takes back what Do did. It may be nil where there is nothing to take back.
	Undo func(ctx context.Context) error
}

// Planned is a step with what it would do.
type Planned struct {
	*Step
	What string
}

// Plan asks the steps what there is to do; those that have nothing to do are
// left out. All problems are told at once.
func Plan(ctx context.Context, steps []Step) ([]Planned, error) {
	var list []Planned
	var errs []error
	for i := range steps {
		what, err := steps[i].Plan(ctx)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", steps[i].Name, err))
		}
		if what != "" {
			list = append(list, Planned{&steps[i], what})
		}
	}
	return list, errors.Join(errs...)
}

// Do does the steps in order. If one fails, or ctx ends, those before it are
// undone, the last one first. tell may be nil.
func Do(ctx context.Context, list []Planned, tell func(string)) error {
	if tell == nil {
		tell = func(string) {}
	}
	for i, s := range list {
		err := ctx.Err()
		if err == nil {
			err = s.Do(ctx)
		}
		if err == nil {
			tell("done: " + s.What)
			continue
		}
		errs := []error{fmt.Errorf("%s: %w", s.Name, err)}
		for j := i - 1; j >= 0; j-- {
			if list[j].Undo == nil {
				continue
			}
			if err := list[j].Undo(context.WithoutCancel(ctx)); err != nil {
				errs = append(errs, fmt.Errorf("undo %s: %w", list[j].Name, err))
				continue
			}
			tell("undone: " + list[j].What)
		}
		return errors.Join(errs...)
	}
	return nil
}
