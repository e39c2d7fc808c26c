/* The guest's side of waPC (https://wapc.io): the host calls __guest_call with the lengths of an operation's name and of
 * a payload, the guest asks for both, and answers with one response or one error.
 */
#ifndef WAPC_H
#define WAPC_H

#include <stdint.h>

#define WAPC_IMPORT(name) __attribute__((import_module("wapc"), import_name(#name)))

WAPC_IMPORT(__guest_request) extern void wapc_guest_request(uint8_t *operation, uint8_t *payload);
WAPC_IMPORT(__guest_response) extern void wapc_guest_response(const uint8_t *response, uint32_t length);
WAPC_IMPORT(__guest_error) extern void wapc_guest_error(const uint8_t *message, uint32_t length);

#endif
