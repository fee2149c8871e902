package wire

import "context"

// An Interceptor is called at the beginning of each call of a plugin but Deliver and Backup, on the lane and by gRPC
// alike, with the name of its method. It returns the context of the call, and a function that is called once with the
// error of the call, a gRPC status or nil, before the answer goes out.
type Interceptor func(ctx context.Context, method string) (context.Context, func(error))

// intercept calls all interceptors, the first outermost.
func intercept(all []Interceptor, ctx context.Context, method string) (context.Context, func(error)) {
	if len(all) == 1 {
		return all[0](ctx, method)
	}
	done := make([]func(error), len(all))
	for i, next := range all {
		ctx, done[i] = next(ctx, method)
	}
	return ctx, func(err error) {
		for i := len(done) - 1; i >= 0; i-- {
			done[i](err)
		}
	}
}
